package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) fdb() *cobra.Command {
	entries := listing(a, (*ctl.Client).FDB,
		[]string{"NETWORK", "VLAN", "MAC", "PORT", "ORIGIN", "AGE"}, func(e *api.FDBEntry) []string {
			return []string{e.Network, strconv.Itoa(int(e.VLAN)), e.MAC, e.Port, e.Origin, strconv.Itoa(e.Age)}
		})
	flush := a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
		n, err := c.FlushFDB(ctx, first(args))
		return a.flushed(n, err)
	})
	cmd := a.tableNoun("fdb", "[NETWORK]", "MAC addresses that the networks know", networkNames, entries, flush)
	cmd.Long = "Lists the MAC tables of all networks, or of one. Age is in seconds since the MAC was last seen; VLAN 0 is the untagged one."
	cmd.Example = `  vsctl fdb
  vsctl fdb net1
  vsctl fdb flush net1`
	return cmd
}

// tableNoun makes the command of a table: "NOUN" and "NOUN list" list it, "NOUN flush" empties it. Each takes an argument that narrows it.
func (a *app) tableNoun(noun, arg, short string, names lister, list, flush func(*cobra.Command, []string) error) *cobra.Command {
	sub := func(use, short, example string, run func(*cobra.Command, []string) error) *cobra.Command {
		return &cobra.Command{Use: use + " " + arg, Short: short, Example: example, Args: arguments(arg),
			ValidArgsFunction: a.complete(names), RunE: run}
	}
	cmd := sub(noun, short, "", list)
	cmd.GroupID = groupTables
	cmd.AddCommand(sub("list", "List the table, as "+noun+" alone does", "  vsctl "+noun+" list", list))
	if flush != nil {
		cmd.AddCommand(sub("flush", "Forget what was learned, in all networks or in one", "  vsctl "+noun+" flush\n  vsctl "+noun+" flush net1", flush))
	}
	return cmd
}

// flushed prints how many entries a flush removed.
func (a *app) flushed(n int, err error) error {
	if err != nil {
		return err
	}
	return a.print(api.Flushed{Flushed: n}, func() { a.line("%d flushed", n) })
}

func (a *app) addFDB() *cobra.Command {
	var r api.FDBRequest
	cmd := &cobra.Command{
		Use:     "add-fdb NETWORK MAC PORT",
		GroupID: groupTables,
		Short:   "Add a static MAC address",
		Long:    "Adds a MAC address that stays at its port: it does not age and does not move.",
		Example: `  vsctl add-fdb net1 02:42:0a:00:00:63 web
  vsctl add-fdb net1 02:42:0a:00:00:63 web --vlan 10`,
		Args:              arguments("NETWORK", "MAC", "PORT"),
		ValidArgsFunction: a.complete(networkNames, nil, portNames),
		RunE: a.change(func(args []string) any {
			r.Network, r.MAC, r.Port = args[0], args[1], args[2]
			return &r
		}, silent),
	}
	cmd.Flags().Func("vlan", "VLAN of the address, as `ID` (default the untagged one)", vlanID(&r.VLAN))
	cmd.Flags().BoolVar(&r.MayExist, "may-exist", false, "do nothing if it is there already")
	return cmd
}

func (a *app) delFDB() *cobra.Command {
	var r api.FDBRequest
	cmd := &cobra.Command{
		Use:     "del-fdb NETWORK MAC",
		GroupID: groupTables,
		Short:   "Delete a MAC address, static or learned",
		Example: `  vsctl del-fdb net1 02:42:0a:00:00:63
  vsctl del-fdb net1 02:42:0a:00:00:63 --vlan 10 --if-exists`,
		Args:              arguments("NETWORK", "MAC"),
		ValidArgsFunction: a.complete(networkNames, macs),
		RunE: a.change(func(args []string) any {
			r.Network, r.MAC = args[0], args[1]
			return &r
		}, silent),
	}
	cmd.Flags().Func("vlan", "VLAN of the address, as `ID` (default the untagged one)", vlanID(&r.VLAN))
	cmd.Flags().BoolVar(&r.IfExists, "if-exists", false, "do nothing if there is no such address")
	return cmd
}
