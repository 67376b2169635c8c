package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"vswitch/ctl/server"
	"vswitch/internal/fdstore"
	"vswitch/internal/machine"
	"vswitch/internal/vswitch"
)

// farewell is how long the end waits for the reader of the log.
const farewell = time.Second

func main() { os.Exit(start()) }

// start runs the command line and returns the exit code.
func start() int {
	// The first two of these ask other daemons for something; a log that nobody reads any more is no reason to end.
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	ctx, end := context.WithCancel(context.Background())
	defer end()
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGTERM, os.Interrupt)
	go func() { // as long as the process
		<-heard
		signal.Stop(heard) // a second signal ends the daemon at once, also one that comes as soon as the first is seen to be heard
		end()
	}()
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
	cfg, err := config(o)
	if err != nil {
		return err
	}
	if o.teardown {
		return vswitch.Teardown(ctx, cfg, log)
	}
	return serve(ctx, cfg, o, log)
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
