package server_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"vswitch/ctl/server"
	"vswitch/internal/api"
)

func seqs(list []api.Event) (first, last uint64, n int) {
	if len(list) == 0 {
		return 0, 0, 0
	}
	return list[0].Seq, list[len(list)-1].Seq, len(list)
}

func TestBacklog(t *testing.T) {
	for _, tt := range []struct {
		name        string
		published   int
		since       uint64
		first, last uint64
		n           int
	}{
		{"nothing yet", 0, 0, 0, 0, 0},
		{"all", 3, 0, 1, 3, 3},
		{"some", 3, 2, 3, 3, 1},
		{"none after the newest", 3, 3, 0, 0, 0},
		{"of an earlier life", 3, 900, 1, 3, 3},
		{"ring just full", 1024, 0, 1, 1024, 1024},
		{"ring overwritten", 1025, 0, 2, 1025, 1024},
		{"since overwritten", 5000, 12, 3977, 5000, 1024},
		{"since kept", 5000, 4990, 4991, 5000, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var e server.Events
			for i := range tt.published {
				e.Publish("t", "o", strconv.Itoa(i+1))
			}
			first, last, n := seqs(e.Backlog(tt.since))
			if first != tt.first || last != tt.last || n != tt.n {
				t.Errorf("got %d events, %d to %d, want %d, %d to %d", n, first, last, tt.n, tt.first, tt.last)
			}
			for _, event := range e.Backlog(tt.since) {
				if event.Message != strconv.FormatUint(event.Seq, 10) || event.Time.IsZero() {
					t.Fatalf("event %d is %+v", event.Seq, event)
				}
			}
		})
	}
}

func TestSubscribeFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e server.Events
		e.Publish("a", "", "")
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for event := range e.Subscribe(ctx, 0) {
				got = append(got, event.Type)
			}
		}()
		synctest.Wait()
		e.Publish("b", "", "")
		synctest.Wait()
		e.Publish("c", "", "")
		e.Publish("d", "", "")
		synctest.Wait()
		cancel()
		<-done
		if len(got) != 4 || got[3] != "d" {
			t.Errorf("got %v, want a b c d", got)
		}
	})
}

func TestSubscribeDropsTheSlow(t *testing.T) {
	var e server.Events
	e.Publish("first", "", "")
	var got []api.Event
	for event := range e.Subscribe(t.Context(), 0) {
		if len(got) == 0 { // while the reader is busy with the first, the ring goes round
			for range 2000 {
				e.Publish("more", "", "")
			}
		}
		got = append(got, event)
	}
	if len(got) != 2 || got[1].Type != api.EventLagged || got[1].Seq != 1 {
		t.Fatalf("got %d events, the last of type %q, want the first and a notice", len(got), got[len(got)-1].Type)
	}
	for event := range e.Subscribe(t.Context(), got[1].Seq) {
		if event.Seq != 2001-1024+1 {
			t.Errorf("after subscribing again the first event is %d", event.Seq)
		}
		break
	}
}

func TestPublishFromMany(t *testing.T) {
	var e server.Events
	ctx, cancel := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			last := uint64(0)
			for event := range e.Subscribe(ctx, 0) {
				if event.Type != api.EventLagged && event.Seq != last+1 {
					t.Errorf("event %d came after %d", event.Seq, last)
				}
				last = event.Seq
			}
		})
		writers.Go(func() {
			for range 200 {
				e.Publish("t", "", "")
			}
		})
	}
	writers.Wait()
	cancel()
	readers.Wait()
	if _, last, n := seqs(e.Backlog(0)); last != 800 || n != 800 {
		t.Errorf("%d events up to %d, want 800", n, last)
	}
}
