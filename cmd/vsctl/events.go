package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

func (a *app) events() *cobra.Command {
	var follow bool
	var since uint64
	cmd := &cobra.Command{
		Use:     "events",
		GroupID: groupLook,
		Short:   "What happened, and what happens",
		Long: `Prints the events that the daemon remembers, up to 1024, and with --follow each new one as it happens, until it is interrupted.
With -o json each event is one line, with -o yaml one document.`,
		Example: `  vsctl events
  vsctl events --follow
  vsctl events --since 120 -o json`,
		Args:              arguments(),
		ValidArgsFunction: a.complete(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if follow {
				a.timeout = 0
			}
			err := a.do(func(ctx context.Context, c *ctl.Client, _ []string) error {
				return a.printEvents(ctx, c, since, follow)
			})(cmd, args)
			if follow && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new events")
	cmd.Flags().Uint64Var(&since, "since", 0, "only events after the one of this number, as `SEQ`")
	return cmd
}

func (a *app) printEvents(ctx context.Context, c *ctl.Client, since uint64, follow bool) error {
	for e, err := range c.Events(ctx, since, follow) {
		if err == nil {
			err = a.printEvent(e)
		}
		if err == nil && a.out.err != nil {
			err = &outputError{a.out.err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printEvent(e api.Event) error {
	switch a.format {
	case "text":
		a.line("%s  %-16s  %-16s  %s", e.Time.Local().Format("2006-01-02T15:04:05.000Z07:00"), e.Type, dash(e.Object), e.Message)
		return nil
	case "yaml":
		fmt.Fprintln(a.out, "---")
	}
	return a.data(e, "")
}
