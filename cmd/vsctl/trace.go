package main

import (
	"context"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) trace() *cobra.Command {
	return &cobra.Command{
		Use:     "trace FLOW",
		GroupID: groupLook,
		Short:   "Tell what would happen to a frame, step by step",
		Long: `Walks a frame through the switch as the first frame of a flow walks, and prints each decision and the verdict.
Nothing is sent, learned or counted. FLOW is written as for "ovs-appctl ofproto/trace": in_port=PORT and what else is known of the
frame, separated by commas. What is left out is filled in, as far as the ports' addresses tell. in_port is a port, host:vsw0, or an uplink as
uplink:NAME. The words are

  kind         tcp udp icmp sctp arp ip; tcp6 udp6 icmp6 sctp6 ipv6
  Ethernet     eth_src eth_dst eth_type vlan_vid vlan_pcp vlan_inner vlan_service len
  IP           ip_src ip_dst ipv6_src ipv6_dst ip_proto ip_tos ip_ttl
  ports        tcp_src tcp_dst tcp_flags udp_src udp_dst sctp_src sctp_dst tp_src tp_dst
  ICMP         icmp_type icmp_code icmp_id icmpv6_type icmpv6_code nd_target nd_sll nd_tll
  ARP          arp_op arp_spa arp_tpa arp_sha arp_tha

Those of OVS that begin with dl_ and nw_ are known too.`,
		Example: `  vsctl trace in_port=web,tcp,ip_src=10.0.0.2,ip_dst=10.0.0.3,tcp_dst=80
  vsctl trace in_port=web,arp,arp_tpa=10.0.0.1
  vsctl trace in_port=uplink:auto,tcp,ip_src=203.0.113.9,ip_dst=192.0.2.2,tcp_dst=8080`,
		Args:              arguments("FLOW"),
		ValidArgsFunction: a.complete(inPorts),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
			t, err := c.Trace(ctx, api.TraceRequest{Flow: args[0]})
			if err != nil {
				return err
			}
			return a.print(t, func() {
				a.line("Flow: %s", t.Flow)
				for _, step := range t.Steps {
					a.line("  %s", step)
				}
				a.line("Verdict: %s", t.Verdict)
			})
		}),
	}
}
