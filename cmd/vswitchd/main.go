package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"vswitch/ctl/server"
	"vswitch/internal/api"
	"vswitch/internal/datapath"
	"vswitch/internal/fdstore"
	"vswitch/internal/logsink"
	"vswitch/internal/machine"
	"vswitch/internal/vswitch"
	"vswitch/nat"
)

// farewell is how long the end waits for the reader of the log.
const farewell = time.Second

func main() { os.Exit(start()) }

// start runs the command line and returns the exit code.
func start() int {
	// The first two of these ask other daemons for something; a log that nobody reads any more is no reason to end.
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the daemon at once: it can be killed at any time
	o := &options{flowCache: true, coalesce: true, moveSlow: true}
	o.log = openLog(o)
	defer o.log.Close(farewell)
	err := command(o).ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(o.log, "vswitchd: %v\n", err)
	var u usageError
	if errors.As(err, &u) {
		fmt.Fprintln(o.log, "try 'vswitchd --help'")
		return 2
	}
	return 1
}

type usageError struct{ error }

// options are the flags.
type options struct {
	socket, stateDir, fdstore string
	roSocket, roGroup         string
	flowCache, coalesce       onOff
	moveSlow                  onOff
	keepAwake                 string
	workers, maxFlows, queue  int
	spin                      time.Duration
	logLevel, logFormat       string
	teardown                  bool
	hostPort                  string
	hostIPs                   []net.IP
	limits                    nat.Limits
	timeouts                  map[string]string

	log *logsink.Sink // where the log goes
}

func command(o *options) *cobra.Command {
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
		Args:          noArguments,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.socket, "socket", "/run/vswitch/vswitchd.sock", "control socket, as `PATH`")
	f.StringVar(&o.roSocket, "ro-socket", "", "second socket, for those who may look but change nothing, as `PATH` (none by default)")
	f.StringVar(&o.roGroup, "ro-group", "", "`GROUP` that may use the read-only socket, instead of everybody")
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/vswitch", "`DIRECTORY` of the state that outlives the daemon")
	f.BoolVar(&o.teardown, "teardown", false, "remove everything that the state knows, and exit")
	f.IntVar(&o.workers, "workers", 0, "`N` threads that move frames; 0: one less than cores, 4 at most")
	f.Var(&o.flowCache, "flow-cache", "replay decisions: on or off (each frame is decided anew)")
	f.IntVar(&o.maxFlows, "max-flows", 0, "`N` cached flows of a worker (0: 262144)")
	f.DurationVar(&o.spin, "spin", 50*time.Microsecond, "longest `TIME` to poll before sleeping; 0: never poll")
	f.StringVar(&o.keepAwake, "keep-awake", "auto", "let no idle core halt while polling pays, as `MODE`: on, off, or auto (in a virtual machine)")
	f.Var(&o.coalesce, "coalesce", "merge frames of a flow before they leave: on or off")
	f.Var(&o.moveSlow, "move-slow", "move ports whose receivers take long to threads of their own: on or off")
	f.IntVar(&o.queue, "txqueuelen", 0, "`N` frames that wait in the kernel for us, of each TAP (0: 8192)")
	f.StringVar(&o.hostPort, "host-port", "vsw0", "the host's interface to the networks of router main, as `NAME`, or off")
	f.IPSliceVar(&o.hostIPs, "host-ip", nil, "the host's address on it, as `IP`, one for IPv4 and one for IPv6 (default 192.0.0.6, fd83:585c:c419::6)")
	f.IntVar(&o.limits.Connections, "max-connections", 0, "`N` connections that routers and rules know of (0: 262144)")
	f.IntVar(&o.limits.PerNetwork, "max-network-connections", 0, "the same, `N` of one network (0: 32768)")
	f.StringToStringVar(&o.timeouts, "nat-timeout", nil, "how long connections live unused, as `KIND=TIME`, such as udp=300s,tcp=2h4m: all are in 'vsctl show'")
	f.StringVar(&o.fdstore, "fdstore", "auto", "`WHO` keeps our devices open over a restart: auto, systemd, keeper or none")
	f.StringVar(&o.logLevel, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "`FORMAT` of the log: text or json")
	for _, name := range []string{"host-ip", "nat-timeout"} {
		f.Lookup(name).DefValue = "" // not []
	}
	cmd.AddCommand(keeperCommand())
	cmd.CompletionOptions.HiddenDefaultCmd = true
	return cmd
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("argument %q: vswitchd takes flags only; networks and ports are vsctl's", args[0])}
	}
	return nil
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
	log, err := logger(o, o.log)
	if err != nil {
		return usageError{err}
	}
	if o.roGroup != "" && o.roSocket == "" {
		return usageError{errors.New("--ro-group is for --ro-socket, which is missing")}
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
		NoCache: !bool(o.flowCache), NoCoalesce: !bool(o.coalesce), NoMove: !bool(o.moveSlow), LogLost: o.log.Lost,
	}
	if err := hostPort(o, &cfg); err != nil {
		return usageError{err}
	}
	if err := connections(o, &cfg); err != nil {
		return usageError{err}
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
	return serve(ctx, cfg, o, log)
}

// connections takes over limits and timeouts of connections.
func connections(o *options, cfg *vswitch.Config) error {
	for name, n := range map[string]int{"max-connections": o.limits.Connections, "max-network-connections": o.limits.PerNetwork} {
		if n < 0 || n > nat.MaxConnections {
			return fmt.Errorf("--%s %d: use 1 to %d, or 0 for the default", name, n, nat.MaxConnections)
		}
	}
	cfg.Limits = o.limits
	for name, value := range o.timeouts {
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("--nat-timeout %s=%.40s: use a time like 90s or 2h", name, value)
		}
		if err := cfg.Timeouts.Set(name, d); err != nil {
			return fmt.Errorf("--nat-timeout: %w", err)
		}
	}
	return nil
}

// hostPort takes over what is asked of the host port.
func hostPort(o *options, cfg *vswitch.Config) error {
	if o.hostPort == "off" {
		return nil
	}
	if err := api.CheckIfName(o.hostPort); err != nil {
		return fmt.Errorf("--host-port: %w", err)
	}
	var ips []netip.Addr
	for _, ip := range o.hostIPs {
		a, _ := netip.AddrFromSlice(ip)
		ips = append(ips, a.Unmap())
	}
	var err error
	cfg.HostPort = o.hostPort
	cfg.HostIPs, err = vswitch.CheckHostIPs(ips)
	return err
}

func serve(ctx context.Context, cfg vswitch.Config, o *options, log *slog.Logger) error {
	limitMemory(log)
	// Each worker keeps one P to itself while it is busy; control and the collector need the others.
	procs := runtime.GOMAXPROCS(0)
	cfg.OnWorkers = func(n int) { runtime.GOMAXPROCS(max(procs, n+2)) }
	events := new(server.Events)
	sw, err := vswitch.New(cfg, events, log)
	if err != nil {
		return err
	}
	defer sw.Close()
	l, err := server.Listen(cfg.Socket) // clients wait for their answers until the ports are back
	if err != nil {
		return err
	}
	defer l.Close()
	var ro net.Listener
	if o.roSocket != "" {
		if ro, err = server.ListenReadOnly(o.roSocket, o.roGroup); err != nil {
			return err
		}
		defer ro.Close()
	}
	g, ctx := errgroup.WithContext(ctx)
	run, stop := context.WithCancel(context.WithoutCancel(ctx)) // frames flow until the last request is answered
	g.Go(func() error { return sw.Run(run) })
	g.Go(func() error {
		defer stop()
		if err := sw.Restore(ctx); err != nil {
			return err
		}
		log.Info("ready", "socket", cfg.Socket, "version", vswitch.Version)
		notify(log, "READY=1")
		return control(ctx, server.New(sw, events, log), l, ro)
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

// control serves the control socket and, if there is one, the read-only one.
func control(ctx context.Context, s *server.Server, l, ro net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Serve(ctx, l) })
	if ro != nil {
		g.Go(func() error { return s.ServeReadOnly(ctx, ro) })
	}
	return g.Wait()
}

// limitMemory has the collector work harder near the limit of our cgroup, beyond which the kernel kills us. The rest is for what
// isn't the collector's: stacks, the kernel's sockets, pages of the state file. GOMEMLIMIT in the environment has precedence.
func limitMemory(log *slog.Logger) {
	limit := machine.MemoryLimit() / 10 * 9
	if os.Getenv("GOMEMLIMIT") == "" && limit < math.MaxInt64/10*8 {
		debug.SetMemoryLimit(limit)
		log.Info("memory is limited by the cgroup", "bytes", limit)
	}
}

// notify tells the service manager, if there is one.
func notify(log *slog.Logger, state string) {
	if err := fdstore.Notify(state); err != nil {
		log.Warn("notify the service manager", "state", state, "err", err)
	}
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
