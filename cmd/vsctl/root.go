package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vswitch/ctl"
	"vswitch/internal/api"
)

// Exit codes of vsctl.
const (
	exitOK          = 0
	exitRefused     = 1 // the daemon refused, or the answer could not be written
	exitUsage       = 2
	exitUnreachable = 3
)

// app is one run of vsctl: where it writes, and the flags that all commands share.
type app struct {
	out       *sink
	socket    string
	format    string // text, json, yaml
	noHeaders bool
	timeout   time.Duration
	dryRun    bool
	batch     *batch // commands to be carried out together; nil: there is one
}

func newApp(stdout io.Writer) *app {
	return &app{
		out: &sink{w: stdout}, format: "text", timeout: 30 * time.Second,
		socket: cmp.Or(os.Getenv("VSWITCH_SOCKET"), ctl.DefaultSocket),
	}
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := newApp(stdout)
	cmd, err := a.execute(ctx, args, stderr)
	if err == nil && a.out.err != nil {
		err = &outputError{a.out.err}
	}
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errDiffers) {
		return exitRefused
	}
	status := exitCode(err)
	hint := ""
	var diff *diffError
	if status == exitUsage && !errors.As(err, &diff) {
		hint = fmt.Sprintf("; see `%s --help`", cmd.CommandPath())
	}
	fmt.Fprintf(stderr, "vsctl: %s%s\n", plain(err.Error()), hint)
	return status
}

// exitCode tells the kinds of errors apart: what neither the daemon nor the output is to blame for was wrong on the command line.
func exitCode(err error) int {
	var refused *api.Error
	var output *outputError
	var diff *diffError
	switch {
	case errors.Is(err, ctl.ErrUnreachable):
		return exitUnreachable
	case errors.As(err, &diff):
		return exitUsage
	case errors.As(err, &refused), errors.As(err, &output), errors.Is(err, context.Canceled):
		return exitRefused
	}
	return exitUsage
}

// Groups of commands in the help.
const (
	groupNetworks = "networks"
	groupPorts    = "ports"
	groupRouting  = "routing"
	groupRules    = "rules"
	groupTables   = "tables"
	groupConfig   = "config"
	groupLook     = "look"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "vsctl",
		Short: "Control the virtual switch of this host",
		Long: `vsctl controls vswitchd, the virtual switch for the containers of this host.

Several commands that change the configuration, with " -- " between them, are carried out all or none.

Exits with 0 when all is done, 1 if the daemon refuses, 2 if the command line is wrong, 3 if there is no daemon; diff has codes of its own.`,
		Example: `  vsctl add-network net1 --subnet 10.0.0.0/24
  vsctl add-port net1 web --netns web
  vsctl show
  vsctl del-port web -- del-network net1 -- add-network net2`,
		Args:                       cobra.ArbitraryArgs,
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("--output", a.format, formats); err != nil {
				return err
			}
			return a.checkBatch(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && a.batch != nil {
				return nil // options alone
			}
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownVerb(cmd, args[0])
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", a.socket, "control socket of the daemon, as `PATH`; also $VSWITCH_SOCKET")
	f.StringVarP(&a.format, "output", "o", a.format, "`FORMAT` of what is printed: text, json or yaml")
	f.BoolVar(&a.noHeaders, "no-headers", a.noHeaders, "print tables without their first line")
	f.DurationVar(&a.timeout, "timeout", a.timeout, "how long to wait for the daemon, as `TIME`; 0 is for ever")
	f.BoolVar(&a.dryRun, "dry-run", a.dryRun, "find out whether the change can be made, and do not make it")
	must(root.RegisterFlagCompletionFunc("output", fixed(formats)))

	root.AddGroup(&cobra.Group{ID: groupNetworks, Title: "Networks:"}, &cobra.Group{ID: groupPorts, Title: "Ports:"},
		&cobra.Group{ID: groupRouting, Title: "Routing:"}, &cobra.Group{ID: groupRules, Title: "Rules:"},
		&cobra.Group{ID: groupTables, Title: "Tables:"}, &cobra.Group{ID: groupConfig, Title: "The whole configuration:"},
		&cobra.Group{ID: groupLook, Title: "Looking:"})
	root.AddCommand(
		a.addNetwork(), a.setNetwork(), a.delNetwork(), a.listNetworks(),
		a.addPort(), a.setPort(), a.delPort(), a.connect(), a.disconnect(), a.listPorts(),
		a.addUplink(), a.delUplink(), a.listUplinks(),
		a.addRoute(), a.delRoute(), a.listRoutes(), a.publish(), a.unpublish(), a.listPublished(), a.neigh(), a.conntrack(),
		a.addRule(), a.delRule(), a.listRules(),
		a.fdb(), a.addFDB(), a.delFDB(), a.flows(),
		a.export(), a.diff(), a.apply(),
		a.show(), a.trace(), a.stats(), a.drops(), a.events(),
		a.version(), completion())
	root.SetFlagErrorFunc(flagError)
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Example = "  vsctl help add-port"
		help.Run, help.RunE = nil, func(cmd *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			switch {
			case err != nil || about == root && len(rest) > 0:
				return unknownVerb(root, args[0])
			case len(rest) > 0:
				return surplus(cmd, rest[0])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		}
	}
	return root
}

func unknownVerb(cmd *cobra.Command, verb string) error {
	err := fmt.Errorf("there is no command %q", verb)
	if like := cmd.SuggestionsFor(verb); len(like) > 0 {
		err = fmt.Errorf("%w: did you mean %s?", err, strings.Join(like, " or "))
	}
	return err
}

// do makes a command's run of f, which gets a client and a context that ends after --timeout.
func (a *app) do(f func(ctx context.Context, c *ctl.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd.Context(), func(ctx context.Context, c *ctl.Client) error { return f(ctx, c, args) })
	}
}

// withClient calls f with a client and a context that ends after --timeout.
func (a *app) withClient(ctx context.Context, f func(ctx context.Context, c *ctl.Client) error) error {
	if a.timeout > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	c := ctl.New(a.socket)
	defer c.Close()
	return f(ctx, c)
}

// listing makes the run of a command that prints a list as a table with the given head. get asks for it, of what the command's argument
// names or, for "", of all; row makes a line of one element.
func listing[T any](
	a *app, get func(c *ctl.Client, ctx context.Context, of string) ([]T, error), head []string, row func(*T) []string,
) func(*cobra.Command, []string) error {
	return a.do(func(ctx context.Context, c *ctl.Client, args []string) error {
		list, err := get(c, ctx, first(args))
		if err != nil {
			return err
		}
		return a.print(list, func() {
			var rows [][]string
			for i := range list {
				rows = append(rows, row(&list[i]))
			}
			a.table(head, rows)
		})
	})
}

// whole adapts a list that nothing narrows.
func whole[T any](get func(*ctl.Client, context.Context) ([]T, error)) func(*ctl.Client, context.Context, string) ([]T, error) {
	return func(c *ctl.Client, ctx context.Context, _ string) ([]T, error) { return get(c, ctx) }
}

// first returns the first of args, or nothing.
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// deletes makes cmd delete the object that its argument names.
func (a *app) deletes(kind string, r *api.DeleteRequest, cmd *cobra.Command) *cobra.Command {
	cmd.Args = arguments(strings.Fields(cmd.Use)[1])
	cmd.RunE = a.change(func(args []string) any {
		r.Name = args[0]
		return r
	}, silent)
	cmd.Flags().BoolVar(&r.IfExists, "if-exists", false, "do nothing if there is no such "+kind)
	return cmd
}

// arguments accepts one argument for each name; those in brackets may be missing.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return surplus(cmd, args[len(names)])
		}
		if len(args) < len(names) && !strings.HasPrefix(names[len(args)], "[") {
			return fmt.Errorf("%s is missing", names[len(args)])
		}
		return nil
	}
}

// surplus is the error for an argument that nobody asked for. Where a flag needs no value, what was meant for one is an argument.
func surplus(cmd *cobra.Command, arg string) error {
	err := fmt.Errorf("argument %q is one too many", arg)
	if arg == "true" || arg == "false" {
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if f.Value.Type() == "bool" {
				err = fmt.Errorf("%w: did you mean --%s=%s?", err, f.Name, arg)
			}
		})
	}
	return err
}

// oneOf refuses a flag's value that is not in the list.
func oneOf(flag, value string, list []string) error {
	if value == "" || slices.Contains(list, value) {
		return nil
	}
	return fmt.Errorf("%s is %q: use %s", flag, value, strings.Join(list, ", "))
}

// exclusive refuses two flags of a group at once.
func exclusive(cmd *cobra.Command, groups [][]string) error {
	for _, group := range groups {
		var given []string
		for _, name := range group {
			if cmd.Flags().Changed(name) {
				given = append(given, "--"+name)
			}
		}
		if len(given) > 1 {
			return fmt.Errorf("%s exclude each other: give one of them", strings.Join(given, " and "))
		}
	}
	return nil
}

// must stops at an error that only a mistake in this program makes.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
