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
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{out: &sink{w: stdout}}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil && a.out.err != nil {
		err = &outputError{a.out.err}
	}
	if err == nil {
		return exitOK
	}
	status := exitCode(err)
	hint := ""
	if status == exitUsage {
		hint = fmt.Sprintf("; see `%s --help`", cmd.CommandPath())
	}
	fmt.Fprintf(stderr, "vsctl: %s%s\n", plain(err.Error()), hint)
	return status
}

// exitCode tells the kinds of errors apart: what neither the daemon nor the output is to blame for was wrong on the command line.
func exitCode(err error) int {
	var refused *api.Error
	var output *outputError
	switch {
	case errors.Is(err, ctl.ErrUnreachable):
		return exitUnreachable
	case errors.As(err, &refused), errors.As(err, &output), errors.Is(err, context.Canceled):
		return exitRefused
	}
	return exitUsage
}

// Groups of commands in the help.
const (
	groupNetworks = "networks"
	groupPorts    = "ports"
	groupTables   = "tables"
	groupLook     = "look"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "vsctl",
		Short: "Control the virtual switch of this host",
		Long:  "vsctl controls vswitchd, the virtual switch for the containers of this host.",
		Example: `  vsctl add-network net1 --subnet 10.0.0.0/24
  vsctl add-port net1 web --netns web
  vsctl show`,
		Args:                       cobra.ArbitraryArgs,
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE:          func(*cobra.Command, []string) error { return oneOf("--output", a.format, formats) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownVerb(cmd, args[0])
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", cmp.Or(os.Getenv("VSWITCH_SOCKET"), ctl.DefaultSocket), "control socket of the daemon, as `PATH`; also $VSWITCH_SOCKET")
	f.StringVarP(&a.format, "output", "o", "text", "`FORMAT` of what is printed: text, json or yaml")
	f.BoolVar(&a.noHeaders, "no-headers", false, "print tables without their first line")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "how long to wait for the daemon, as `TIME`; 0 is for ever")
	must(root.RegisterFlagCompletionFunc("output", fixed(formats)))

	root.AddGroup(&cobra.Group{ID: groupNetworks, Title: "Networks:"}, &cobra.Group{ID: groupPorts, Title: "Ports:"},
		&cobra.Group{ID: groupTables, Title: "Tables:"}, &cobra.Group{ID: groupLook, Title: "Looking:"})
	root.AddCommand(
		a.addNetwork(), a.delNetwork(), a.listNetworks(),
		a.addPort(), a.delPort(), a.listPorts(),
		a.fdb(), a.addFDB(), a.delFDB(), a.flows(),
		a.show(), a.trace(), a.stats(), a.drops(), a.events(),
		a.version(), completion())
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Example = "  vsctl help add-port"
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
		ctx, cancel := cmd.Context(), func() {}
		if a.timeout > 0 {
			ctx, cancel = context.WithTimeout(ctx, a.timeout)
		}
		defer cancel()
		c := ctl.New(a.socket)
		defer c.Close()
		return f(ctx, c, args)
	}
}

// arguments accepts one argument for each name; those in brackets may be missing.
func arguments(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return fmt.Errorf("argument %q is one too many", args[len(names)])
		}
		if len(args) < len(names) && !strings.HasPrefix(names[len(args)], "[") {
			return fmt.Errorf("%s is missing", names[len(args)])
		}
		return nil
	}
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

// ifExists forgets that err says that there is no such object, if the user said that he does not mind.
func ifExists(mayLack bool, err error) error {
	var refused *api.Error
	if mayLack && errors.As(err, &refused) && refused.Code == api.CodeNotFound {
		return nil
	}
	return err
}

// must stops at an error that only a mistake in this program makes.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
