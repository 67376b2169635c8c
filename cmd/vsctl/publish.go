package main

import (
	"cmp"
	"context"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) publish() *cobra.Command {
	var r api.PublishRequest
	var from []string
	cmd := &cobra.Command{
		Use:     "publish PORT [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]",
		GroupID: groupRouting,
		Short:   "Publish ports of a container",
		Long: `Lets connections to our ports reach a container, whose switch port is PORT, while all others go on. Without HOSTIP they are heard on every
address of the router and of the host, of both families that the container has; 0.0.0.0 or [::] are all of one family; 127.0.0.1 or [::1] are
for programs of the host alone. Who is outside comes by an uplink: see add-uplink. Without HOSTPORT one from 20000 to 32767 is chosen. Prints
what is published then, as unpublish takes it.`,
		Example: `  vsctl publish web 8080:80
  vsctl publish web 443
  vsctl publish dns 53:53/udp --from 10.0.0.0/8 --from fd00::/8
  vsctl publish ftp 192.0.2.1:30000-30099:30000-30099
  vsctl publish web [2001:db8::1]:80:8080
  vsctl publish web 127.0.0.1:8080:80`,
		ValidArgsFunction: a.complete(portNames),
	}
	cmd.Args = func(_ *cobra.Command, args []string) (err error) {
		if err := arguments("PORT", "SPEC")(cmd, args); err != nil {
			return err
		}
		if r.Publish, err = api.ParsePublish(args[1]); err != nil {
			return usage(err)
		}
		for _, s := range from {
			if err := r.Publish.Admit(s); err != nil {
				return usage(err)
			}
		}
		return nil
	}
	cmd.RunE = a.change(func(args []string) any {
		r.Port = args[0]
		return &r
	}, func(done api.OperationResult) {
		why := ""
		if p := done.Published; !a.dryRun && p.HostProblem != "" {
			why = " (" + p.HostProblem + ")"
		}
		a.line("%s %v%s", done.Published.Port, done.Published.Publish, why)
	})
	cmd.Flags().StringArrayVar(&from, "from", nil, "let nobody but the prefix or address `CIDR` connect; repeatable")
	cmd.Flags().BoolVar(&r.MayExist, "may-exist", false, "do nothing if the port publishes that already")
	return cmd
}

func (a *app) unpublish() *cobra.Command {
	var r api.UnpublishRequest
	cmd := &cobra.Command{
		Use:     "unpublish PORT [SPEC]",
		GroupID: groupRouting,
		Short:   "Take published ports back",
		Long: `Takes back what a port publishes: all, or what SPEC says. A SPEC without HOSTIP or HOSTPORT means any. Connections that came by a port
that is taken back end.`,
		Example: `  vsctl unpublish web
  vsctl unpublish web 8080:80
  vsctl unpublish dns 53/udp --if-exists`,
		ValidArgsFunction: a.complete(portNames, publishedBy),
	}
	cmd.Args = func(_ *cobra.Command, args []string) (err error) {
		if err := arguments("PORT", "[SPEC]")(cmd, args); err != nil {
			return err
		}
		r.Publish = nil
		if len(args) > 1 {
			p, err := api.ParsePublish(args[1])
			r.Publish = &p
			return usage(err)
		}
		return nil
	}
	cmd.RunE = a.change(func(args []string) any {
		r.Port = args[0]
		return &r
	}, silent)
	cmd.Flags().BoolVar(&r.IfExists, "if-exists", false, "do nothing if the port publishes no such thing")
	return cmd
}

func (a *app) listPublished() *cobra.Command {
	return &cobra.Command{
		Use:     "list-published [PORT]",
		GroupID: groupRouting,
		Short:   "List published ports",
		Long: `Lists what a port publishes, or what all do. What rests has no address to go to for now: -o json says why. HOST is how programs of the
host reach it at the host's own addresses, 127.0.0.1 among them: by a listener, a socket of its own, for 1024 single ports; by sk_lookup, one
socket for all others and ranges; or - for not at all.`,
		Example: `  vsctl list-published
  vsctl list-published web -o json`,
		Args:              arguments("[PORT]"),
		ValidArgsFunction: a.complete(portNames),
		RunE: listing(a, (*ctl.Client).Published,
			[]string{"PORT", "NETWORK", "PUBLISHED", "TO", "HOST", "FROM"}, func(p *api.PublishedPort) []string {
				spec, from, _ := strings.Cut(p.Publish.String(), " from ")
				return []string{p.Port, p.Network, spec, cmp.Or(joined(p.To, ","), "(rests)"), p.Host, from}
			}),
	}
}

// publishedBy lists what the port before it publishes.
func publishedBy(ctx context.Context, c *ctl.Client, before []string) (specs []string) {
	list, _ := c.Published(ctx, before[0])
	for _, p := range list {
		p.Publish.From = nil
		specs = append(specs, p.Publish.String())
	}
	return specs
}
