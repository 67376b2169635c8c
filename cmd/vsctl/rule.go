package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

var (
	directions = []string{"in", "out"}
	actions    = []string{"allow", "deny", "reject"}
)

func (a *app) addRule() *cobra.Command {
	var r api.RuleRequest
	cmd := &cobra.Command{
		Use:     "add-rule NETWORK|PORT in|out allow|deny|reject",
		GroupID: groupRules,
		Short:   "Allow, deny or reject frames",
		Long: `Adds a rule about frames that come in from a container (in) or are about to go out to one (out): of one PORT, or of all ports of a NETWORK.
Replies to what is allowed pass. Of the rules of a port and its network the one with the highest priority decides, of equals the port's before
the network's, then the one that was there first; where none matches, the frame is allowed. A new rule holds for connections that there are.
deny drops; reject tells the sender, by a TCP RST or ICMP. --src and --dst take the addresses that both ends have themselves, behind and before
all translation. Prints the rule with its id.`,
		Example: `  vsctl add-rule web out allow --proto tcp --dport 80,443
  vsctl add-rule web out deny
  vsctl add-rule net1 in reject --dst 10.0.0.0/8 --log
  vsctl add-rule net1 in deny --src @web --dst @db --proto icmp --icmp-type echo-request
  vsctl add-rule db out deny --src @net2 --priority 40000`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := arguments("NETWORK|PORT", "in|out", "allow|deny|reject")(cmd, args); err != nil {
				return err
			}
			return errors.Join(oneOf("direction", args[1], directions), oneOf("action", args[2], actions))
		},
		ValidArgsFunction: a.complete(ruleOwners, func(context.Context, *ctl.Client, []string) []string { return directions },
			func(context.Context, *ctl.Client, []string) []string { return actions }),
	}
	cmd.RunE = a.change(func(args []string) any {
		r.On, r.Direction, r.Action = args[0], args[1], args[2]
		return &r
	}, func(done api.OperationResult) { a.line("%s %s", done.Rule.ID, done.Rule.Rule) })
	f := cmd.Flags()
	f.StringVar(&r.Proto, "proto", "", "`PROTOCOL` of IP by name or number: tcp, udp, icmp, icmp6, sctp, ...")
	f.StringVar(&r.Src, "src", "", "from `CIDR`, or @NAME of a port or network")
	f.StringVar(&r.Dst, "dst", "", "to `CIDR`, or @NAME of a port or network")
	f.StringVar(&r.SrcPorts, "sport", "", "source `PORTS`: 80, 8000-8099, or a list of them with commas")
	f.StringVar(&r.DstPorts, "dport", "", "destination `PORTS`, likewise")
	f.StringVar(&r.ICMPType, "icmp-type", "", "`TYPE` of ICMP by name or number, or TYPE/CODE")
	f.StringVar(&r.SrcMAC, "src-mac", "", "from this `MAC` address")
	f.StringVar(&r.DstMAC, "dst-mac", "", "to this `MAC` address")
	f.StringVar(&r.EtherType, "ethertype", "", "`TYPE` of frame: arp, ipv4, ipv6, or a number such as 0x88cc")
	f.Func("priority", "the highest `N` from 1 to 65535 is asked first (default 32768)", counted(&r.Priority, 65535))
	f.BoolVar(&r.Log, "log", false, "tell of what it decides in the daemon's log and events, but not too often")
	f.BoolVar(&r.MayExist, "may-exist", false, "do nothing if there is the same rule already")
	for flag, f := range map[string]cobra.CompletionFunc{
		"proto": fixed([]string{"tcp", "udp", "icmp", "icmp6", "sctp"}), "ethertype": fixed([]string{"arp", "ipv4", "ipv6"}), "src": a.completePeer, "dst": a.completePeer,
	} {
		must(cmd.RegisterFlagCompletionFunc(flag, f))
	}
	return cmd
}

func (a *app) completePeer(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []string
	for _, name := range a.list(cmd.Context(), ruleOwners, nil) {
		names = append(names, "@"+name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) delRule() *cobra.Command {
	var r api.RuleDeletion
	cmd := &cobra.Command{
		Use:     "del-rule ID",
		GroupID: groupRules,
		Short:   "Take a rule away",
		Long:    "Takes a rule away. What it forbade passes with the next frame, if no other rule forbids it.",
		Example: `  vsctl del-rule r7
  vsctl del-rule r7 -- del-rule r8 -- add-rule web out allow --proto tcp --dport 80`,
		Args:              arguments("ID"),
		ValidArgsFunction: a.complete(ruleIDs),
	}
	cmd.RunE = a.change(func(args []string) any {
		r.ID = args[0]
		return &r
	}, silent)
	cmd.Flags().BoolVar(&r.IfExists, "if-exists", false, "do nothing if there is no such rule")
	return cmd
}

func (a *app) listRules() *cobra.Command {
	return &cobra.Command{
		Use:     "list-rules [NETWORK|PORT]",
		GroupID: groupRules,
		Short:   "List rules, and what they have decided",
		Long: `Lists the rules of a network and its ports, of one port, or all, in the order in which they are asked. PACKETS are those that a rule
decided about; IDLE is in seconds since the last of them.`,
		Example: `  vsctl list-rules
  vsctl list-rules web -o json`,
		Args:              arguments("[NETWORK|PORT]"),
		ValidArgsFunction: a.complete(ruleOwners),
		RunE: listing(a, (*ctl.Client).Rules,
			[]string{"ID", "NETWORK", "ON", "PACKETS", "IDLE", "RULE"}, func(r *api.RuleEntry) []string {
				return []string{r.ID, r.Network, r.On, strconv.FormatUint(r.Packets, 10), number(r.Idle), r.Text()}
			}),
	}
}

func ruleOwners(ctx context.Context, c *ctl.Client, _ []string) []string {
	return append(networkNames(ctx, c, nil), portNames(ctx, c, nil)...)
}

func ruleIDs(ctx context.Context, c *ctl.Client, _ []string) (ids []string) {
	list, _ := c.Rules(ctx, "")
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}
