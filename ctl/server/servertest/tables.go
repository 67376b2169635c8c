package servertest

import (
	"context"

	"vswitch/internal/api"
)

// FDB returns the entries of a network.
func (b *Backend) FDB(_ context.Context, network string) (list []api.FDBEntry, err error) {
	for _, e := range b.Entries {
		if network == "" || e.Network == network {
			list = append(list, e)
		}
	}
	return list, nil
}

// AddFDB adds nothing, but wants the network and the port to exist.
func (b *Backend) AddFDB(ctx context.Context, r api.FDBRequest) error {
	if _, err := b.Port(ctx, r.Port); err != nil {
		return err
	}
	_, err := b.Network(ctx, r.Network)
	return err
}

// DeleteFDB deletes nothing, but wants the entry to exist.
func (b *Backend) DeleteFDB(_ context.Context, r api.FDBRequest) error {
	for _, e := range b.Entries {
		if e.Network == r.Network && e.VLAN == r.VLAN && e.MAC == r.MAC {
			return nil
		}
	}
	if r.IfExists {
		return nil
	}
	return missing("MAC", r.MAC)
}

// FlushFDB returns how many entries are learned.
func (b *Backend) FlushFDB(ctx context.Context, network string) (n int, err error) {
	list, _ := b.FDB(ctx, network)
	for _, e := range list {
		if e.Origin == "learned" {
			n++
		}
	}
	return n, nil
}

// Flows returns the flows of a port.
func (b *Backend) Flows(_ context.Context, port string) (list []api.Flow, err error) {
	for _, f := range b.Cached {
		if port == "" || f.InPort == port {
			list = append(list, f)
		}
	}
	return list, nil
}

// FlushFlows returns how many flows there are.
func (b *Backend) FlushFlows(context.Context) (int, error) { return len(b.Cached), nil }

// Trace returns Answer, unless there is nothing to trace.
func (b *Backend) Trace(_ context.Context, r api.TraceRequest) (api.Trace, error) {
	if r.Flow == "" {
		return api.Trace{}, api.Errorf(api.CodeInvalid, "the flow is empty: start with in_port=PORT")
	}
	return b.Answer, nil
}

// Stats returns Counted.
func (b *Backend) Stats(context.Context) (api.Stats, error) { return b.Counted, nil }

// Drops returns Dropped.
func (b *Backend) Drops(context.Context) ([]api.Drop, error) { return b.Dropped, nil }

// Daemon returns Self.
func (b *Backend) Daemon(context.Context) (api.Daemon, error) { return b.Self, nil }

// Show returns everything.
func (b *Backend) Show(ctx context.Context) (api.Show, error) {
	networks, _ := b.Networks(ctx)
	ports, _ := b.Ports(ctx)
	uplinks, _ := b.Uplinks(ctx)
	return api.Show{Daemon: b.Self, Networks: networks, Ports: ports, Uplinks: uplinks}, nil
}
