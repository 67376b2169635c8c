// Command vswitchd is the switch's daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"vswitch/ctl/server"
	"vswitch/internal/datapath"
	"vswitch/internal/fdstore"
	"vswitch/internal/vswitch"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the daemon at once: it can be killed at any time
	cmd := command()
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "vswitchd: %v\n", err)
		var u usageError
		if errors.As(err, &u) {
			fmt.Fprintln(os.Stderr, "try 'vswitchd --help'")
			os.Exit(2)
		}
		os.Exit(1)
	}
}

type usageError struct{ error }

// options are the flags.
type options struct {
	socket, stateDir, fdstore string
	flowCache, coalesce       onOff
	keepAwake                 string
	workers, maxFlows, queue  int
	spin                      time.Duration
	logLevel, logFormat       string
	teardown                  bool
}

func command() *cobra.Command {
	o := options{flowCache: true, coalesce: true}
	cmd := &cobra.Command{
		Use:   "vswitchd",
		Short: "userspace virtual switch for containers",
		Long: `vswitchd switches frames between containers' namespaces, entirely in userspace. It runs in the foreground and is
managed with vsctl. On SIGTERM, and even on SIGKILL, containers keep their interfaces, and the next start goes on.`,
		Example: `  vswitchd                                    # state in /var/lib/vswitch, socket in /run/vswitch
  vswitchd --state-dir /tmp/v --socket /tmp/v/s
  vswitchd --workers 2 --coalesce=off         # for comparison
  vswitchd --teardown                         # remove all networks and ports that a stopped daemon left`,
		Version:       vswitch.Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), &o) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.socket, "socket", "/run/vswitch/vswitchd.sock", "control socket")
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/vswitch", "directory of the state that outlives the daemon")
	f.BoolVar(&o.teardown, "teardown", false, "remove everything that the state knows, and exit")
	f.IntVar(&o.workers, "workers", 0, "threads that move frames; 0: one less than cores, 4 at most")
	f.Var(&o.flowCache, "flow-cache", "replay decisions: on or off (each frame is decided anew)")
	f.IntVar(&o.maxFlows, "max-flows", 0, "cached flows of a worker (0: 262144)")
	f.DurationVar(&o.spin, "spin", 50*time.Microsecond, "longest time to poll before sleeping; 0: never poll")
	f.StringVar(&o.keepAwake, "keep-awake", "auto", "let no idle core halt while polling pays: on, off, or auto (in a virtual machine)")
	f.Var(&o.coalesce, "coalesce", "merge frames of a flow before they leave: on or off")
	f.IntVar(&o.queue, "txqueuelen", 0, "frames that wait in the kernel for us, of each TAP (0: 8192)")
	f.StringVar(&o.fdstore, "fdstore", "auto", "who keeps our devices open over a restart: auto, systemd, keeper or none")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	cmd.AddCommand(keeperCommand())
	cmd.CompletionOptions.HiddenDefaultCmd = true
	return cmd
}

// keeperCommand is the child that keeps file descriptors while no daemon runs; the daemon starts it itself.
func keeperCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:    "keeper",
		Short:  "keep the daemon's file descriptors while it is away (started by the daemon)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fdstore.RunKeeper(cmd.Context(), socket, fdstore.KeeperGrace)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "where it listens")
	return cmd
}

func run(ctx context.Context, o *options) error {
	log, err := logger(o)
	if err != nil {
		return usageError{err}
	}
	stateDir, err := filepath.Abs(o.stateDir)
	if err != nil {
		return fmt.Errorf("state directory %q: %w", o.stateDir, err)
	}
	if o.workers < 0 || o.workers > vswitch.MaxWorkers {
		return usageError{fmt.Errorf("--workers %d: use 0 to %d", o.workers, vswitch.MaxWorkers)}
	}
	cfg := vswitch.Config{
		StateDir: stateDir, Socket: o.socket, FDStore: o.fdstore,
		Workers: o.workers, MaxFlows: o.maxFlows, MaxSpin: o.spin, TxQueueLen: o.queue,
		NoCache: !bool(o.flowCache), NoCoalesce: !bool(o.coalesce),
	}
	switch o.keepAwake {
	case "on":
		cfg.KeepAwake = true
	case "auto":
		cfg.KeepAwake = datapath.KeepAwakePays()
	case "off":
	default:
		return usageError{fmt.Errorf("--keep-awake %.40q: use on, off or auto", o.keepAwake)}
	}
	if cfg.MaxSpin <= 0 {
		cfg.MaxSpin = -1
	}
	if o.teardown {
		return vswitch.Teardown(ctx, cfg, log)
	}
	return serve(ctx, cfg, log)
}

func serve(ctx context.Context, cfg vswitch.Config, log *slog.Logger) error {
	events := new(server.Events)
	sw, err := vswitch.New(cfg, events, log)
	if err != nil {
		return err
	}
	defer sw.Close()
	// Each worker keeps one P to itself while it is busy; control and the collector need the others.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), sw.Workers()+2))
	l, err := server.Listen(cfg.Socket) // clients wait for their answers until the ports are back
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return sw.Run(ctx) })
	g.Go(func() error {
		defer l.Close()
		if err := sw.Restore(ctx); err != nil {
			return err
		}
		log.Info("ready", "socket", cfg.Socket, "version", vswitch.Version)
		notify(log, "READY=1")
		return server.New(sw, events, log).Serve(ctx, l)
	})
	g.Go(func() error {
		<-ctx.Done()
		notify(log, "STOPPING=1")
		return nil
	})
	err = g.Wait()
	log.Info("stopped; interfaces stay in place")
	return err
}

// notify tells the service manager, if there is one.
func notify(log *slog.Logger, state string) {
	if err := fdstore.Notify(state); err != nil {
		log.Warn("notify the service manager", "state", state, "err", err)
	}
}

func logger(o *options) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", o.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", o.logFormat)
}

// onOff is a flag that says on or off.
type onOff bool

func (v *onOff) String() string {
	if *v {
		return "on"
	}
	return "off"
}

// Set takes on and off, and what people write instead.
func (v *onOff) Set(s string) error {
	switch s {
	case "on", "true", "yes", "1":
		*v = true
	case "off", "false", "no", "0":
		*v = false
	default:
		return fmt.Errorf("use on or off")
	}
	return nil
}

// Type names the flag's values in the help text.
func (v *onOff) Type() string { return "on|off" }
