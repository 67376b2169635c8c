package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) show() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show",
		GroupID: groupLook,
		Short:   "Everything at a glance, or one network, port or uplink",
		Long: `Prints the daemon with the kernel features that it uses, its networks, their ports, and the uplinks. Rules are shown with one network or
port, and have a list of their own, as routes and published ports do.`,
		Example: `  vsctl show
  vsctl show network net1
  vsctl show port web -o yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%q is none of network, port and uplink: say which of them, as in `vsctl show port web`", args[0])
			}
			return nil
		},
		ValidArgsFunction: a.complete(),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, _ []string) error {
			s, err := c.Show(ctx)
			if err != nil {
				return err
			}
			return a.print(s, func() { a.showAll(s) })
		}),
	}
	cmd.AddCommand(&cobra.Command{
		Use:               "network NAME",
		Short:             "One network with its ports",
		Example:           "  vsctl show network net1",
		Args:              arguments("NAME"),
		ValidArgsFunction: a.complete(networkNames),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
			n, err := c.Network(ctx, args[0])
			if err != nil {
				return err
			}
			ports, err := c.Ports(ctx)
			if err != nil {
				return err
			}
			rules, err := c.Rules(ctx, "network:"+n.Name)
			if err != nil {
				return err
			}
			return a.print(n, func() { a.showNetwork(n, ports); a.showRules(rules) })
		}),
	}, &cobra.Command{
		Use:               "uplink NAME",
		Short:             "One uplink",
		Example:           "  vsctl show uplink auto",
		Args:              arguments("NAME"),
		ValidArgsFunction: a.complete(uplinkNames),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
			u, err := c.Uplink(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(u, func() { a.showUplink(u) })
		}),
	}, &cobra.Command{
		Use:               "port NAME",
		Short:             "One port",
		Example:           "  vsctl show port web",
		Args:              arguments("NAME"),
		ValidArgsFunction: a.complete(portNames),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
			p, err := c.Port(ctx, args[0])
			if err != nil {
				return err
			}
			rules, err := c.Rules(ctx, "port:"+p.Name)
			if err != nil {
				return err
			}
			return a.print(p, func() { a.showPort("", p); a.showRules(rules) })
		}),
	})
	return cmd
}

func (a *app) showAll(s api.Show) {
	d := s.Daemon
	a.line("vswitchd %s", d.Version)
	a.field("    ", "Process", fmt.Sprintf("%d, since %s", d.PID, d.Started.Local().Format("2006-01-02 15:04:05")))
	a.field("    ", "Kernel", d.Kernel)
	a.field("    ", "Go", d.Go)
	a.field("    ", "State", d.StateDir)
	a.field("    ", "Open files", files(d))
	for _, record := range d.SetAside {
		a.field("    ", "Set aside", record)
	}
	a.field("    ", "Descriptors", d.FDStore)
	a.field("    ", "Workers", number(d.Workers))
	a.field("    ", "Features", pairs(d.Features))
	a.field("    ", "Options", pairs(d.Options))
	if d.HostPort != nil {
		a.showHostPort(d.HostPort)
	}
	for _, n := range s.Networks {
		a.showNetwork(n, s.Ports)
	}
	for _, p := range s.Ports {
		if p.Network == "" {
			a.showPort("", p)
		}
	}
	for _, u := range s.Uplinks {
		a.showUplink(u)
	}
}

// showHostPort prints by what the host and the containers reach each other.
func (a *app) showHostPort(h *api.HostPort) {
	a.line("Host port %s", h.Interface)
	a.field("    ", "State", h.State)
	a.field("    ", "host.vswitch.internal", joined(h.Addresses, ", "))
	a.field("    ", "Host's addresses", joined(h.HostAddresses, ", "))
	a.field("    ", "Networks", joined(h.Routes, ", "))
	for _, u := range h.Unrouted {
		a.field("    ", "Not reached", fmt.Sprintf("%s: %s", u.Subnet, u.Reason))
	}
	for _, p := range h.Problems {
		a.field("    ", "Problem", p)
	}
}

func joined[T fmt.Stringer](list []T, sep string) string {
	var text []string
	for _, x := range list {
		text = append(text, x.String())
	}
	return strings.Join(text, sep)
}

// showRules prints rules below what they are on.
func (a *app) showRules(list []api.RuleEntry) {
	for _, r := range list {
		a.field("    ", "Rule "+r.ID, fmt.Sprintf("%s, %d packets", r.Rule, r.Packets))
	}
}

// files tells how many ports the limit of open files allows.
func files(d api.Daemon) string {
	if d.MaxFiles == 0 {
		return ""
	}
	return fmt.Sprintf("%d at most, room for %d more ports", d.MaxFiles, d.MorePorts)
}

// showNetwork prints a network and those of ports that are its own.
func (a *app) showNetwork(n api.Network, ports []api.Port) {
	a.line("Network %s", n.Name)
	a.field("    ", "Driver", n.Driver)
	for _, s := range n.Subnets {
		a.field("    ", "Subnet", subnet(s))
	}
	a.field("    ", "MTU", number(n.MTU))
	a.field("    ", "Router", n.Router)
	a.field("    ", "Masquerade", n.Masquerade)
	a.field("    ", "Options", options(map[string]bool{"internal": n.Internal, "no-icc": n.NoICC, "no-gateway": n.NoGateway, "ra": n.RA}))
	a.field("    ", "Advertised DNS", joined(n.RADNS, ", "))
	a.field("    ", "MAC table", fmt.Sprintf("%d entries at most, %d s", n.MACLimit, n.Age))
	a.field("    ", "Labels", pairs(n.Labels))
	for _, p := range ports {
		if p.Network == n.Name {
			a.showPort("    ", p)
		}
	}
}

func (a *app) showPort(indent string, p api.Port) {
	a.line("%sPort %s", indent, p.Name)
	indent += "    "
	if indent == "    " {
		a.field(indent, "Network", p.Network)
	}
	state := p.Status.State
	if p.Status.Error != "" {
		state += ": " + p.Status.Error
	}
	if p.Status.Slow {
		state += fmt.Sprintf(", slow: on worker %d, apart from others", p.Status.Worker)
	}
	a.field(indent, "State", state)
	a.field(indent, "Interface", fmt.Sprintf("%s (%s)", p.IfName, p.Type))
	a.field(indent, "Namespace", netns(p))
	a.field(indent, "Addresses", joined(p.IPs, ", "))
	a.field(indent, "MAC", p.MAC)
	a.field(indent, "VLAN", vlans(p))
	a.field(indent, "MTU", number(p.MTU))
	for _, r := range p.Routes {
		a.field(indent, "Route", fmt.Sprintf("%s via %s", r.Prefix, r.Via))
	}
	if p.DefaultRoute != "auto" {
		a.field(indent, "Default route", p.DefaultRoute)
	}
	a.field(indent, "Metric", number(p.Metric))
	a.field(indent, "Options", options(map[string]bool{"isolated": p.Isolated, "no-config": p.NoConfig, "stage": p.Stage, "source-guard": p.SourceGuard}))
	a.field(indent, "MAC limit", number(p.MACLimit))
	a.field(indent, "Storm meters", storm(p))
	a.field(indent, "Aliases", strings.Join(p.Aliases, ", "))
	a.field(indent, "Published", joined(p.Publish, ", "))
	a.field(indent, "Labels", pairs(p.Labels))
	a.field(indent, "Worker", fmt.Sprint(p.Status.Worker))
	a.field(indent, "Offloads", p.Status.Offloads)
	a.field(indent, "Switch end", p.Status.HostIf)
}

// field prints a line of an overview, unless its value is empty.
func (a *app) field(indent, name, value string) {
	if value != "" {
		a.line("%s%s: %s", indent, name, value)
	}
}

// number is n as a field, of which 0 is left out.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func subnet(s api.Subnet) string {
	text := s.Prefix.String()
	if s.Gateway.IsValid() {
		text += ", gateway " + s.Gateway.String()
	}
	if s.Range.IsValid() {
		text += ", addresses from " + s.Range.String()
	}
	return text
}

func pairs(m map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return strings.Join(list, ", ")
}

func options(m map[string]bool) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] {
			list = append(list, k)
		}
	}
	return strings.Join(list, ", ")
}
