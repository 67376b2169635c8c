package datapath

import (
	"context"
	"sync"
	"testing"

	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// classifierFunc is a Classifier.
type classifierFunc func(*packet.Frame, int64, *flow.Verdict)

func (c classifierFunc) Classify(f *packet.Frame, now int64, v *flow.Verdict) { c(f, now, v) }

// dropAll drops each frame.
var dropAll = classifierFunc(func(_ *packet.Frame, _ int64, v *flow.Verdict) { v.Drop = packet.DropNoReceiver })

func newTest(t testing.TB, cfg Config, c Classifier) *Datapath {
	d, err := New(cfg, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// running lets the workers run until the test ends.
func running(t testing.TB, d *Datapath) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// What is asked of workers is answered before they run and after they stopped, too.
func TestMailboxWithoutWorker(t *testing.T) {
	d := newTest(t, Config{Workers: 2}, dropAll)
	d.Quiesce()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.Run(ctx); err != nil {
		t.Fatal(err)
	}
	d.Quiesce()
	if n := d.FlushFlows(); n != 0 {
		t.Errorf("%d flows", n)
	}
}

// Each function that is posted runs once, and never beside the worker or another one, while the worker starts and stops.
func TestMailboxWhileStartingAndStopping(t *testing.T) {
	const posters, posts = 4, 200
	for range 20 {
		d := newTest(t, Config{Workers: 1, MaxSpin: -1}, dropAll)
		w := d.workers[0]
		n := 0 // guarded by being the worker
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		for i := range posters {
			wg.Go(func() {
				for j := range posts {
					if i == 0 && j == posts/2 {
						cancel()
					}
					w.call(func() { n++; w.table.Flush() })
				}
			})
		}
		wg.Wait()
		if n != posters*posts {
			t.Fatalf("%d functions ran of %d", n, posters*posts)
		}
		cancel()
	}
}
