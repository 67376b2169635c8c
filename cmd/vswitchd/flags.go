package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vswitch/internal/api"
	"vswitch/internal/datapath"
	"vswitch/internal/logsink"
	"vswitch/internal/vswitch"
	"vswitch/nat"
)

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

// maxQueue is how many frames may wait in a TAP: its ring takes 8 MiB of the kernel's memory then.
const maxQueue = 1 << 20

var stores = []string{"auto", "systemd", "keeper", "none"}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("argument %q: vswitchd takes flags only; networks and ports are vsctl's", args[0])}
	}
	return nil
}

// config is what the flags ask for.
func config(o *options) (cfg vswitch.Config, err error) {
	if o.roGroup != "" && o.roSocket == "" {
		return cfg, usageError{errors.New("--ro-group is for --ro-socket, which is missing")}
	}
	stateDir, err := filepath.Abs(o.stateDir)
	if err != nil {
		return cfg, fmt.Errorf("state directory %q: %w", o.stateDir, err)
	}
	if o.workers < 0 || o.workers > vswitch.MaxWorkers {
		return cfg, usageError{fmt.Errorf("--workers %d: use 0 to %d", o.workers, vswitch.MaxWorkers)}
	}
	if o.maxFlows < 0 {
		return cfg, usageError{fmt.Errorf("--max-flows %d: use a number of flows, or 0 for the default", o.maxFlows)}
	}
	if o.queue < 0 || o.queue > maxQueue {
		return cfg, usageError{fmt.Errorf("--txqueuelen %d: use 1 to %d frames, or 0 for the default", o.queue, maxQueue)}
	}
	if !slices.Contains(stores, o.fdstore) {
		return cfg, usageError{fmt.Errorf("--fdstore %.40q: use %s", o.fdstore, strings.Join(stores, ", "))}
	}
	cfg = vswitch.Config{
		StateDir: stateDir, Socket: o.socket, FDStore: o.fdstore,
		Workers: o.workers, MaxFlows: o.maxFlows, MaxSpin: o.spin, TxQueueLen: o.queue,
		NoCache: !bool(o.flowCache), NoCoalesce: !bool(o.coalesce), NoMove: !bool(o.moveSlow), LogLost: o.log.Lost,
	}
	if err := hostPort(o, &cfg); err != nil {
		return cfg, usageError{err}
	}
	if err := connections(o, &cfg); err != nil {
		return cfg, usageError{err}
	}
	switch o.keepAwake {
	case "on":
		cfg.KeepAwake = true
	case "auto":
		cfg.KeepAwake = datapath.KeepAwakePays()
	case "off":
	default:
		return cfg, usageError{fmt.Errorf("--keep-awake %.40q: use on, off or auto", o.keepAwake)}
	}
	if cfg.MaxSpin <= 0 {
		cfg.MaxSpin = -1
	}
	return cfg, nil
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
