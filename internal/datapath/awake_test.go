package datapath

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"
)

// constraints returns an awake whose device is a pipe, and what was written to it so far.
func constraints(t *testing.T) (*awake, func() []uint32) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return &awake{fd: int(w.Fd())}, func() (all []uint32) {
		w.Write([]byte{0xff, 0xff, 0xff, 0xff})
		for {
			var b [4]byte
			if _, err := r.Read(b[:]); err != nil {
				t.Fatal(err)
			}
			v := binary.NativeEndian.Uint32(b[:])
			if v == 1<<32-1 {
				return all
			}
			all = append(all, v)
		}
	}
}

func TestAwake(t *testing.T) {
	win := func(a *awake, n int) {
		for range n {
			a.won(0)
		}
	}
	for _, c := range []struct {
		name string
		do   func(*awake)
		want []uint32
	}{
		{"a few polls that pay are nothing", func(a *awake) { win(a, wakefulWins-1) }, nil},
		{"many are", func(a *awake) { win(a, 10*wakefulWins) }, []uint32{0}},
		{"a long sleep between starts over", func(a *awake) { win(a, wakefulWins-1); a.lost(); win(a, wakefulWins-1) }, nil},
		{"held for a while", func(a *awake) { win(a, wakefulWins); a.rest(wakefulTime) }, []uint32{0}},
		{"not for longer", func(a *awake) { win(a, wakefulWins); a.rest(wakefulTime + 1) }, []uint32{0, noConstraint}},
		{"released once", func(a *awake) { win(a, wakefulWins); a.rest(1e9); a.rest(2e9) }, []uint32{0, noConstraint}},
		{"held again", func(a *awake) { win(a, wakefulWins); a.rest(1e9); win(a, wakefulWins) }, []uint32{0, noConstraint, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, written := constraints(t)
			c.do(a)
			if got := written(); !slices.Equal(got, c.want) {
				t.Errorf("wrote %d, want %d", got, c.want)
			}
		})
	}
}

// A worker that went to sleep lets cores halt, although nothing wakes it.
func TestAwakeEndsInSleep(t *testing.T) {
	d, err := New(Config{Workers: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	w := d.workers[0]
	a, written := constraints(t)
	w.awake = *a
	w.awake.set(true)
	done := make(chan error)
	go func() {
		_, err := w.wait()
		done <- err
	}()
	for got := []uint32(nil); !slices.Contains(got, noConstraint); got = append(got, written()...) {
	}
	w.mail.running = true
	w.post(func() {})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.awake.fd = -1
}
