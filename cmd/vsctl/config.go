package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

// maxFile is how much of a file is read: more than the daemon takes.
const maxFile = 1<<20 + 1

func (a *app) export() *cobra.Command {
	return &cobra.Command{
		Use:     "export",
		GroupID: groupConfig,
		Short:   "Print the whole configuration",
		Long: `Prints the whole configuration as YAML, for apply and diff: networks, ports, static MAC addresses, static routes, rules and uplinks.
What has its default is left out.`,
		Example: `  vsctl export > vswitch.yaml
  vsctl export -o json`,
		Args:              arguments(),
		ValidArgsFunction: a.complete(),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, _ []string) error {
			if a.format == "json" {
				config, err := c.Config(ctx)
				if err != nil {
					return err
				}
				return a.data(config, "  ")
			}
			text, err := c.ConfigYAML(ctx)
			for line := range strings.Lines(text) {
				a.line("%s", strings.TrimSuffix(line, "\n"))
			}
			return err
		}),
	}
}

func (a *app) apply() *cobra.Command {
	cmd := a.withFile("apply", func(ctx context.Context, c *ctl.Client, file []byte, noDelete bool) error {
		done, err := c.ApplyFile(ctx, file, api.ApplyOptions{DryRun: a.dryRun, NoDelete: noDelete})
		if err != nil {
			return err
		}
		return a.print(done, func() { a.changes(done.Changes) })
	})
	cmd.Short = "Make the configuration be that of a file"
	cmd.Long = `Makes the configuration be that of a file of YAML, as export prints it: adds, changes and deletes, all or none, and prints what it
did as diff does. What the file does not name is deleted, unless --no-delete is given.`
	cmd.Example = `  vsctl apply -f vswitch.yaml
  vsctl apply -f vswitch.yaml --dry-run
  vsctl apply -f - --no-delete < more.yaml`
	return cmd
}

func (a *app) diff() *cobra.Command {
	cmd := a.withFile("diff", func(ctx context.Context, c *ctl.Client, file []byte, noDelete bool) error {
		done, err := c.ApplyFile(ctx, file, api.ApplyOptions{DryRun: true, NoDelete: noDelete})
		if err != nil {
			return &diffError{err}
		}
		if err := a.print(done, func() { a.changes(done.Changes) }); err != nil {
			return &diffError{err}
		}
		if len(done.Changes) > 0 {
			return errDiffers
		}
		return nil
	})
	cmd.Short = "Print what apply would change"
	cmd.Long = `Prints what apply would change, a line for each object: "+" it is added, "~" changed, "-" deleted, "-+" deleted
and added again, because something differs that it has for life.

Exits with 0 if there is nothing to change, 1 if there is, 2 if the file or what it wants is refused, 3 if there is no daemon.`
	cmd.Example = `  vsctl diff -f vswitch.yaml
  vsctl export | vsctl --socket /run/other.sock diff -f -`
	return cmd
}

// errDiffers makes diff end with status 1 and without a message.
var errDiffers = errors.New("there are differences")

// diffError is an error of diff, whose status must not be that of a difference.
type diffError struct{ error }

func (e *diffError) Unwrap() error { return e.error }

// withFile makes a command that reads a file.
func (a *app) withFile(verb string, run func(ctx context.Context, c *ctl.Client, file []byte, noDelete bool) error) *cobra.Command {
	var path string
	var noDelete bool
	cmd := &cobra.Command{
		Use:     verb + " -f FILE",
		GroupID: groupConfig,
		Args:    arguments(),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, _ []string) error {
			file, err := readFile(path)
			if err != nil {
				return err
			}
			return run(ctx, c, file, noDelete)
		}),
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "`FILE` of YAML or JSON; - is the standard input")
	cmd.Flags().BoolVar(&noDelete, "no-delete", false, "leave alone what the file does not name")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if path == "" {
			return errors.New("the file is missing: give -f FILE")
		}
		return nil
	}
	return cmd
}

func readFile(path string) ([]byte, error) {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxFile))
	if err != nil {
		return nil, err // which names the file
	}
	return b, nil
}

// changes prints a line for each.
func (a *app) changes(list []api.Change) {
	signs := map[string]string{api.ActionAdd: "+", api.ActionChange: "~", api.ActionReplace: "-+", api.ActionDelete: "-"}
	for _, c := range list {
		what := c.Kind + " " + c.Name
		if c.Network != "" {
			what += " on " + c.Network
		}
		if c.Detail != "" {
			what += ": " + c.Detail
		}
		a.line("%s %s", signs[c.Action], what)
	}
}
