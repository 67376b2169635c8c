package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vswitch/ctl"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

func completion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the script that completes vsctl in a shell",
		Long: `Prints a script for bash, zsh, fish or powershell. It completes commands, flags, and the names of networks, ports and other objects.
That of bash needs the package bash-completion.`,
		Example: `  source <(vsctl completion bash)
  vsctl completion bash > /etc/bash_completion.d/vsctl
  vsctl completion fish > ~/.config/fish/completions/vsctl.fish`,
		Args:              arguments("SHELL"),
		ValidArgsFunction: fixed(shells),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return fmt.Errorf("there is no completion for %q: use %s", args[0], strings.Join(shells, ", "))
		},
	}
}

// completeTime is how long the user may have to wait for the daemon when he presses the tabulator.
const completeTime = time.Second

// lister asks the daemon for what an argument may be, given the arguments before it. On an error it returns nothing.
type lister func(ctx context.Context, c *ctl.Client, before []string) []string

// complete completes each argument by the lister of its place. A nil one stands for what we can't know.
func (a *app) complete(listers ...lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(listers) || listers[len(args)] == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.list(cmd.Context(), listers[len(args)], args), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) list(ctx context.Context, f lister, before []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	c := ctl.New(a.socket)
	defer c.Close()
	var clean []string
	for _, s := range f(ctx, c, before) {
		clean = append(clean, plain(s))
	}
	return clean
}

// fixed completes from a list.
func fixed(list []string) cobra.CompletionFunc {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
}

func networkNames(ctx context.Context, c *ctl.Client, _ []string) (names []string) {
	list, _ := c.Networks(ctx)
	for _, n := range list {
		names = append(names, n.Name)
	}
	return names
}

func portNames(ctx context.Context, c *ctl.Client, _ []string) (names []string) {
	list, _ := c.Ports(ctx)
	for _, p := range list {
		names = append(names, p.Name)
	}
	return names
}

// macs lists the addresses that the network before it knows.
func macs(ctx context.Context, c *ctl.Client, before []string) (names []string) {
	list, _ := c.FDB(ctx, before[0])
	for _, e := range list {
		names = append(names, e.MAC)
	}
	return names
}

// inPorts lists beginnings of a flow.
func inPorts(ctx context.Context, c *ctl.Client, _ []string) (flows []string) {
	for _, name := range portNames(ctx, c, nil) {
		flows = append(flows, "in_port="+name)
	}
	return flows
}

// completeNetns completes --netns: the named namespaces of the host, those of ports, or a path.
func (a *app) completeNetns(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if strings.HasPrefix(typed, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	for _, port := range a.list(cmd.Context(), portNames, nil) {
		names = append(names, "container:"+port)
	}
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		names = append(names, plain(filepath.Base(e.Name())))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
