package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

// batch is several commands of one command line, to be carried out together.
type batch struct {
	operations []api.Operation
	texts      []func(api.OperationResult)
}

// execute runs the commands of a command line, and returns the one that ran last, or failed.
func (a *app) execute(ctx context.Context, args []string, stderr io.Writer) (cmd *cobra.Command, err error) {
	parts := commands(args)
	if len(parts) == 1 {
		return a.command(ctx, parts[0], stderr)
	}
	a.batch = &batch{}
	for _, part := range parts {
		if cmd, err = a.command(ctx, part, stderr); err != nil {
			return cmd, err
		}
		if help := cmd.Flag("help"); help != nil && help.Changed {
			return cmd, nil
		}
	}
	return cmd, a.withClient(ctx, a.transact)
}

func (a *app) command(ctx context.Context, args []string, stderr io.Writer) (*cobra.Command, error) {
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(stderr)
	return root.ExecuteContextC(ctx)
}

// commands parts a command line at "--". When a shell asks what the last word could become, only the last command counts.
func commands(args []string) (parts [][]string) {
	asks := func(s string) bool { return s == cobra.ShellCompRequestCmd || s == cobra.ShellCompNoDescRequestCmd }
	if i := slices.IndexFunc(args, asks); i >= 0 {
		for j := len(args) - 2; j > i; j-- {
			if args[j] == "--" {
				return [][]string{slices.Concat(args[:i+1], args[j+1:])}
			}
		}
		return [][]string{args}
	}
	for {
		i := slices.Index(args, "--")
		if i < 0 {
			return append(parts, args)
		}
		parts, args = append(parts, args[:i]), args[i+1:]
	}
}

// checkBatch refuses commands that can't be undone, or have nothing to undo.
func (a *app) checkBatch(cmd *cobra.Command) error {
	changes := slices.Contains(api.Operations(), cmd.Name())
	switch {
	case !cmd.HasParent() || changes:
		return nil
	case a.batch != nil:
		return fmt.Errorf("%s can't be one of several commands: those are verbs that change networks, ports and tables, all or none; run it alone", cmd.Name())
	case a.dryRun && cmd.Name() != "apply":
		return fmt.Errorf("%s changes no configuration, so --dry-run is of no use", cmd.Name())
	}
	return nil
}

// change makes the run of a command that changes the configuration: operation says what it asks for, text prints the answer.
func (a *app) change(operation func(args []string) any, text func(api.OperationResult)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		o := api.Operation{Op: cmd.Name(), Request: operation(args)}
		if a.batch != nil {
			a.batch.operations = append(a.batch.operations, o)
			a.batch.texts = append(a.batch.texts, text)
			return nil
		}
		if a.dryRun {
			a.batch = &batch{[]api.Operation{o}, []func(api.OperationResult){text}}
			return a.withClient(cmd.Context(), a.transact)
		}
		return a.withClient(cmd.Context(), func(ctx context.Context, c *ctl.Client) error {
			r, err := c.Operate(ctx, o)
			if err != nil {
				return err
			}
			if made := object(r); made != nil {
				return a.print(made, func() { text(r) })
			}
			return nil
		})
	}
}

// object is what an operation made, if it made something.
func object(r api.OperationResult) any {
	switch {
	case r.Network != nil:
		return r.Network
	case r.Port != nil:
		return r.Port
	case r.Route != nil:
		return r.Route
	case r.Published != nil:
		return r.Published
	case r.Uplink != nil:
		return r.Uplink
	case r.Rule != nil:
		return r.Rule
	}
	return nil
}

// transact has the batch carried out and prints what came of it.
func (a *app) transact(ctx context.Context, c *ctl.Client) error {
	if len(a.batch.operations) == 0 {
		return nil
	}
	done, err := c.Transact(ctx, api.Transaction{Operations: a.batch.operations, DryRun: a.dryRun})
	if err != nil {
		return err
	}
	return a.print(done, func() {
		for i, r := range done.Results {
			a.batch.texts[i](r)
		}
	})
}

// silent prints nothing: what deletes something has nothing to tell.
func silent(api.OperationResult) {}
