package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"vswitch/ctl"
	"vswitch/internal/api"
)

// release is set by the linker: -X main.release=1.2.3.
var release string

// versions is the answer of version.
type versions struct {
	Client clientVersion `json:"client"`
	Daemon *api.Daemon   `json:"daemon,omitempty"`
}

type clientVersion struct {
	Version    string `json:"version"`
	APIVersion string `json:"api_version"`
	Go         string `json:"go"`
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Versions of vsctl and of the daemon",
		Example: `  vsctl version
  vsctl version -o json`,
		Args:              arguments(),
		ValidArgsFunction: a.complete(),
		RunE: a.do(func(ctx context.Context, c *ctl.Client, _ []string) error {
			v := versions{Client: clientVersion{Version: ownVersion(), APIVersion: api.Version, Go: runtime.Version()}}
			d, unreachable := c.Daemon(ctx)
			if unreachable == nil {
				v.Daemon = &d
			}
			err := a.print(v, func() {
				a.line("vsctl %s, API %s, %s", v.Client.Version, v.Client.APIVersion, v.Client.Go)
				if v.Daemon != nil {
					a.line("vswitchd %s, API %s, %s, Linux %s", d.Version, d.APIVersion, d.Go, d.Kernel)
				}
			})
			if err != nil {
				return err
			}
			return unreachable
		}),
	}
}

func ownVersion() string {
	if release != "" {
		return release
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(unknown)"
}
