package load

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// counts is what a Sequence knows, without its bitmap.
type counts struct{ Unique, Duplicates, Reordered, Ancient uint64 }

func count(s *Sequence) counts { return counts{s.Unique, s.Duplicates, s.Reordered, s.Ancient} }

func TestSequence(t *testing.T) {
	tests := []struct {
		name    string
		arrived []uint64
		want    counts
	}{
		{"nothing", nil, counts{}},
		{"in order", []uint64{0, 1, 2}, counts{Unique: 3}},
		{"a gap", []uint64{0, 2}, counts{Unique: 2}},
		{"swapped", []uint64{0, 2, 1, 3}, counts{Unique: 4, Reordered: 1}},
		{"duplicate of the last", []uint64{0, 1, 1}, counts{Unique: 2, Duplicates: 1}},
		{"duplicate of a late one", []uint64{1, 0, 0}, counts{Unique: 2, Reordered: 1, Duplicates: 1}},
		{"a gap longer than the window", []uint64{0, 2 * window, 1, 2*window - 1}, counts{Unique: 3, Reordered: 1, Ancient: 1}},
		{"bits of a window ago are forgotten", []uint64{5, window + 4, window + 6, window + 5}, counts{Unique: 4, Reordered: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s Sequence
			for _, seq := range test.arrived {
				s.Add(seq)
			}
			if diff := cmp.Diff(test.want, count(&s)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSequenceAgainstMap compares with the naive twin: a set of all numbers ever seen.
func TestSequenceAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var s Sequence
	var want counts
	seen := map[uint64]bool{}
	var highest, at uint64
	for range 200_000 {
		at += uint64(random.IntN(4)) // 0 repeats, above 1 skips
		seq := at - min(at, uint64(random.IntN(3)*random.IntN(50)))
		s.Add(seq)
		switch {
		case seen[seq]:
			want.Duplicates++
		case len(seen) > 0 && seq < highest:
			want.Reordered++
			want.Unique++
		default:
			want.Unique++
		}
		seen[seq] = true
		highest = max(highest, seq)
	}
	if diff := cmp.Diff(want, count(&s)); diff != "" {
		t.Error(diff)
	}
}

func TestHeader(t *testing.T) {
	b := make([]byte, 18)
	putHeader(b, 7, 1<<40)
	if seq, ok := header(b, 7); !ok || seq != 1<<40 {
		t.Errorf("header = %d, %v", seq, ok)
	}
	for name, bad := range map[string][]byte{"short": b[:15], "empty": nil, "zeros": make([]byte, 18)} {
		if _, ok := header(bad, 7); ok {
			t.Errorf("%s: taken for one of ours", name)
		}
	}
	if _, ok := header(b, 8); ok {
		t.Error("another flow's datagram taken for one of ours")
	}
}
