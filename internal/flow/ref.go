package flow

import "sync/atomic"

// Cell is the part of a table entry that cached flows lean on. It lies in memory that never moves and is reused only for
// another Cell, so a stale reference to it is harmless: the version differs.
type Cell struct {
	version  atomic.Uint64
	lastUsed atomic.Int64
}

// Version returns the entry's current version.
func (c *Cell) Version() uint64 { return c.version.Load() }

// Invalidate makes every flow that leans on the entry be decided anew. The owner of the entry calls it when the entry moves,
// dies or is remapped.
func (c *Cell) Invalidate() { c.version.Add(1) }

// LastUsed returns when the entry was last used: nanoseconds of the datapath's monotonic clock.
func (c *Cell) LastUsed() int64 { return c.lastUsed.Load() }

// Touch says that the entry was used at now.
func (c *Cell) Touch(now int64) { c.lastUsed.Store(now) }

// Ref is a reference to a table entry as it was when a decision was made.
type Ref struct {
	Cell    *Cell
	Version uint64
	Touch   bool // use of the flow is use of the entry: it keeps the entry from ageing
}

// Generation counts the changes of a network's or router's configuration. Decisions read it first.
type Generation struct{ n atomic.Uint64 }

// Load returns the current count.
func (g *Generation) Load() uint64 { return g.n.Load() }

// Bump says that the configuration changed.
func (g *Generation) Bump() { g.n.Add(1) }

// GenRef is a generation as it was before a decision was made.
type GenRef struct {
	Gen   *Generation
	Value uint64
}
