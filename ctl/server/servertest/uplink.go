package servertest

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"vswitch/internal/api"
)

// natPorts are those of an uplink that asks for none.
var natPorts = api.PortRange{First: 61000, Last: 65535}

func uplinks() []api.Uplink {
	return []api.Uplink{
		{ID: "u-1", Name: "wan", Interface: "eth0", Mode: api.UplinkShared, Router: "main", Metric: 100, NATPorts: natPorts,
			Status: api.UplinkStatus{State: api.UplinkUp, Interface: "eth0", MTU: 1500, Attached: "tcx", Device: "vs-u-1",
				Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")}}},
		{ID: "u-2", Name: "auto", Interface: api.AutoUplink, Mode: api.UplinkShared, Router: "main", Metric: 200, NATPorts: natPorts,
			Status: api.UplinkStatus{State: api.UplinkDown, Problem: "the host has no default route; the uplink waits for one, or name an interface"}},
	}
}

// AddUplink adds an uplink that is up at once.
func (b *Backend) AddUplink(_ context.Context, r api.UplinkRequest) (api.Uplink, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := api.Uplink{ID: "u-3", Name: cmp.Or(r.Name, r.Interface), Interface: r.Interface, Mode: cmp.Or(r.Mode, api.UplinkShared),
		Router: cmp.Or(r.Router, api.MainRouter), Metric: cmp.Or(r.Metric, 100), NATPorts: cmp.Or(r.NATPorts, natPorts),
		Status: api.UplinkStatus{State: api.UplinkUp, Interface: r.Interface, MTU: 1500, Attached: "tcx"}}
	if slices.ContainsFunc(b.uplinks, func(x api.Uplink) bool { return x.Name == u.Name }) {
		return api.Uplink{}, taken("uplink", u.Name)
	}
	b.uplinks = append(b.uplinks, u)
	return u, nil
}

// DeleteUplink deletes an uplink.
func (b *Backend) DeleteUplink(_ context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.uplinks, func(u api.Uplink) bool { return u.Name == name })
	if i < 0 {
		return missing("uplink", name)
	}
	b.uplinks = slices.Delete(b.uplinks, i, i+1)
	return nil
}

// Uplinks lists the uplinks.
func (b *Backend) Uplinks(context.Context) ([]api.Uplink, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.uplinks), nil
}

// Uplink returns one uplink.
func (b *Backend) Uplink(ctx context.Context, name string) (api.Uplink, error) {
	list, _ := b.Uplinks(ctx)
	if i := slices.IndexFunc(list, func(u api.Uplink) bool { return u.Name == name }); i >= 0 {
		return list[i], nil
	}
	return api.Uplink{}, missing("uplink", name)
}
