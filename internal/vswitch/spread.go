package vswitch

import (
	"context"
	"maps"
	"slices"
	"sync"

	"vswitch/internal/link"
)

// spread calls f for many endpoints at once, but one after the other for those of one namespace. After an error or the end of ctx it
// calls f no more.
func spread(ctx context.Context, list []*endpoint, f func(*endpoint) error) error {
	bySpace := make(map[link.NamespaceID][]*endpoint)
	for _, e := range list {
		bySpace[e.ns] = append(bySpace[e.ns], e)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	_ = abreast(slices.Collect(maps.Values(bySpace)), func(group []*endpoint) error {
		for _, e := range group {
			if ctx.Err() != nil {
				break
			}
			if err := f(e); err != nil {
				stop(err)
			}
		}
		return nil
	})
	return context.Cause(ctx)
}

// gathered are endpoints that were dealt with at once.
type gathered struct {
	mu   sync.Mutex
	list []*endpoint // guarded by mu while they are gathered
}

func (g *gathered) add(e *endpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, e)
}
