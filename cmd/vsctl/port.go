package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) addPort() *cobra.Command {
	var r portFlags
	cmd := &cobra.Command{
		Use:     "add-port NETWORK PORT {--netns NAMESPACE | --pid PID | --stage}",
		GroupID: groupPorts,
		Short:   "Add a port: join a namespace to a network",
		Long: `Adds a port: an interface in a network namespace that belongs to a network.
Prints the port's name, addresses, MAC and interface, separated by blanks; "-" stands for no address.

The namespace is a name below /run/netns, a path, the network namespace of a process (--pid), or the one where another port is
(container:PORT). With --stage the interface is left where the caller picks it up.`,
		Example: `  vsctl add-port net1 web --netns web
  vsctl add-port net1 db --pid 4711 --ip 10.0.0.9 --alias database
  vsctl add-port net1 db2 --netns container:db --ifname eth1 --default-route=no
  vsctl add-port lab fw --netns fw --trunk 10,20-30 --native 10 --no-ip
  vsctl add-port net1 guest --netns guest --source-guard --storm broadcast=100 --storm unknown=1000`,
		Args:              arguments("NETWORK", "PORT"),
		ValidArgsFunction: a.complete(networkNames),
		PreRunE:           func(cmd *cobra.Command, _ []string) error { return r.check(cmd) },
	}
	r.register(a, cmd)
	cmd.RunE = a.change(func(args []string) any {
		r.Network, r.Name = args[0], args[1]
		if cmd.Flags().Changed("native") {
			r.Native = &r.native
		}
		return &r.PortRequest
	}, func(done api.OperationResult) { a.portLine(*done.Port) })
	return cmd
}

// portLine prints what a verb made of a port.
func (a *app) portLine(p api.Port) {
	a.line("%s %s %s %s", p.Name, dash(addresses(p)), p.MAC, p.IfName)
}

func (a *app) delPort() *cobra.Command {
	var r api.DeleteRequest
	cmd := &cobra.Command{
		Use:     "del-port PORT",
		GroupID: groupPorts,
		Short:   "Delete a port and its interface",
		Example: `  vsctl del-port web
  vsctl del-port web --if-exists`,
		ValidArgsFunction: a.complete(portNames),
	}
	return a.deletes("port", &r, cmd)
}

func (a *app) listPorts() *cobra.Command {
	return &cobra.Command{
		Use:     "list-ports [NETWORK]",
		GroupID: groupPorts,
		Short:   "List the ports of a network, or all",
		Example: `  vsctl list-ports
  vsctl list-ports net1 --no-headers`,
		Args:              arguments("[NETWORK]"),
		ValidArgsFunction: a.complete(networkNames),
		RunE: listing(a, portsOf, []string{"NAME", "NETWORK", "TYPE", "STATE", "ADDRESSES", "MAC", "VLAN", "INTERFACE", "NAMESPACE"},
			func(p *api.Port) []string {
				return []string{p.Name, p.Network, p.Type, p.Status.State, addresses(*p), p.MAC, vlans(*p), p.IfName, netns(*p)}
			}),
	}
}

// portsOf returns the ports of a network, or all.
func portsOf(c *ctl.Client, ctx context.Context, network string) ([]api.Port, error) {
	list, err := c.Ports(ctx)
	if err != nil || network == "" {
		return list, err
	}
	if _, err := c.Network(ctx, network); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(p api.Port) bool { return p.Network != network }), nil
}

func addresses(p api.Port) string { return joined(p.IPs, ",") }

// vlans says in a word which VLANs a port carries: the id of an access port, "trunk:10,20-30;native:10" of a trunk.
func vlans(p api.Port) string {
	if len(p.Trunk) == 0 {
		if p.VLAN == 0 {
			return ""
		}
		return strconv.Itoa(int(p.VLAN))
	}
	var list []string
	for _, r := range p.Trunk {
		if r.First == r.Last {
			list = append(list, strconv.Itoa(int(r.First)))
		} else {
			list = append(list, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	s := "trunk:" + strings.Join(list, ",")
	if p.Native != nil {
		s += fmt.Sprintf(";native:%d", *p.Native)
	}
	return s
}

func netns(p api.Port) string {
	switch {
	case p.Netns != nil:
		return p.Netns.Spec
	case p.Stage:
		return "(staged)"
	case p.Type == api.PortHost:
		return "(host)"
	}
	return ""
}
