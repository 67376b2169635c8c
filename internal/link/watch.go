package link

import (
	"context"
	"errors"
)

// EventKind says what happened.
type EventKind uint8

const (
	LinkChanged   EventKind = iota // an interface is new, or its name, MAC, MTU, Up or Carrier may have changed: see Link
	LinkRemoved                    // an interface was deleted or moved elsewhere
	NamespaceDied                  // the namespace is gone with all that was in it
	EventsLost                     // the kernel had too much to say: look at everything again
)

// Event is a change in a watched namespace.
type Event struct {
	Kind      EventKind
	Namespace NamespaceID // zero for EventsLost
	Link      State       // for LinkChanged and LinkRemoved
}

// Watcher reports changes of interfaces in many namespaces through one socket, and keeps none of them alive.
type Watcher struct{}

// NewWatcher makes a watcher whose socket is in the private namespace, which it watches too.
func NewWatcher(private *Namespace) (*Watcher, error) { return nil, errors.ErrUnsupported }

// Add begins to watch ns. It is counted: each Add wants a Remove.
func (w *Watcher) Add(ns *Namespace) error { return errors.ErrUnsupported }

// Remove ends one Add.
func (w *Watcher) Remove(id NamespaceID) {}

// Run calls report with each event, one at a time, until ctx ends; then it returns nil.
func (w *Watcher) Run(ctx context.Context, report func(Event)) error { return errors.ErrUnsupported }

// Close releases the socket.
func (w *Watcher) Close() error { return nil }
