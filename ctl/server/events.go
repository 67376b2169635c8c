package server

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"vswitch/internal/api"
)

// kept is how many events are remembered. A subscriber that falls further behind is dropped.
const kept = 1024

// Events is a ring of the last 1024 events. Publishers write it and never wait; each subscriber reads it at its own pace with a
// cursor of its own. Sequence numbers start at 1 with each start of the daemon and have no gaps. The zero value is ready.
// All methods may be called from many goroutines at once.
type Events struct {
	mu   sync.Mutex
	ring [kept]api.Event // guarded by mu; event s is at s % kept
	last uint64          // guarded by mu; sequence number of the newest event, 0 when there is none
	wake chan struct{}   // guarded by mu; closed at the next event; nil while nobody waits
}

// Publish adds an event, gives it the next sequence number and the time, and wakes the subscribers. It never blocks.
func (e *Events) Publish(typ, object, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	e.ring[e.last%kept] = api.Event{Seq: e.last, Time: time.Now(), Type: typ, Object: object, Message: message}
	if e.wake != nil {
		close(e.wake)
		e.wake = nil
	}
}

// Backlog returns the remembered events after the one numbered since, oldest first. A since above the newest number belongs to an
// earlier life of the daemon and means all.
func (e *Events) Backlog(since uint64) []api.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	events, _ := e.afterLocked(e.startLocked(since))
	return events
}

// Subscribe yields the remembered events after the one numbered since, as Backlog, and then each new one until ctx ends or the
// caller stops. A caller who falls more than 1024 events behind gets one last event of type api.EventLagged, which carries the
// number of the last event that was delivered, and the sequence ends.
func (e *Events) Subscribe(ctx context.Context, since uint64) iter.Seq[api.Event] {
	return func(yield func(api.Event) bool) {
		e.mu.Lock()
		cursor := e.startLocked(since)
		e.mu.Unlock()
		for ctx.Err() == nil {
			events, lost, wake := e.next(cursor)
			if lost > 0 {
				yield(lagged(cursor, lost))
				return
			}
			for _, event := range events {
				if !yield(event) {
					return
				}
				cursor = event.Seq
			}
			if len(events) > 0 {
				continue
			}
			select {
			case <-wake:
			case <-ctx.Done():
			}
		}
	}
}

// next returns the events after cursor, or how many of them were overwritten, or, when there are none, what to wait for.
func (e *Events) next(cursor uint64) (events []api.Event, lost uint64, wake <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if events, lost = e.afterLocked(cursor); len(events) > 0 {
		return events, lost, nil
	}
	if e.wake == nil {
		e.wake = make(chan struct{})
	}
	return nil, 0, e.wake
}

// startLocked returns the cursor of a new reader: what is no longer remembered isn't counted as lost.
func (e *Events) startLocked(since uint64) uint64 {
	if since > e.last {
		since = 0
	}
	if e.last > kept {
		since = max(since, e.last-kept)
	}
	return since
}

func (e *Events) afterLocked(cursor uint64) (events []api.Event, lost uint64) {
	first := cursor + 1
	if e.last > kept && first <= e.last-kept {
		lost = e.last - kept - cursor
		first = e.last - kept + 1
	}
	for s := first; s <= e.last; s++ {
		events = append(events, e.ring[s%kept])
	}
	return events, lost
}

func lagged(cursor, lost uint64) api.Event {
	return api.Event{Seq: cursor, Time: time.Now(), Type: api.EventLagged,
		Message: fmt.Sprintf("dropped for reading too slowly: %d events are lost; subscribe again to go on", lost)}
}
