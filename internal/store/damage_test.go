package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/store"

	"github.com/google/go-cmp/cmp"
)

// hundred makes a store of a hundred networks and ports, written in as many steps, and returns its directory and file.
func hundred(t *testing.T) (dir string, whole []byte) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, dir)
	for i := range 100 {
		if err := s.Update(func(tx *store.Tx) error { return errors.Join(tx.PutNetwork(network(i)), tx.PutPort(port(i))) }); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	whole, err := os.ReadFile(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, whole
}

// tellsNoLie opens a damaged copy of the file of hundred: it is refused, or what is read is what was written, and what is not
// read is told. (Of a damaged head the one before it stands in: then the last step is not read.)
func tellsNoLie(t *testing.T, what, dir string, file []byte) (refused bool) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "state.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir, silent)
	if err != nil {
		if code(err) != api.CodeRefused || !strings.Contains(err.Error(), "state file") {
			t.Fatalf("%s: got %v, want %s", what, err, api.CodeRefused)
		}
		return true
	}
	defer s.Close()
	networks, err1 := s.Networks()
	ports, err2 := s.Ports()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for _, n := range networks {
		var i int
		fmt.Sscanf(n.ID, "n%d", &i)
		if diff := cmp.Diff(network(i), n, comparable); diff != "" {
			t.Errorf("%s: network (-want +got):\n%s", what, diff)
		}
	}
	for _, p := range ports {
		var i int
		fmt.Sscanf(p.Port.ID, "p%d", &i)
		if diff := cmp.Diff(port(i), p, comparable); diff != "" {
			t.Errorf("%s: port (-want +got):\n%s", what, diff)
		}
	}
	if n := len(networks) + len(ports) + len(s.Damaged()); n != 200 && n != 198 {
		t.Errorf("%s: %d networks, %d ports and %d damaged records", what, len(networks), len(ports), len(s.Damaged()))
	}
	return false
}

// A file with bits flipped anywhere is read in part or refused, and never brings the daemon down.
func TestOpenSurvivesDamage(t *testing.T) {
	t.Parallel()
	dir, whole := hundred(t)
	r := rand.New(rand.NewPCG(1, 1))
	refused := 0
	for round := range 300 {
		b := bytes.Clone(whole)
		switch r.IntN(3) {
		case 0: // a sector is lost
			clear(b[r.IntN(len(b)/512)*512:][:512])
		case 1: // bits flip
			for range 1 + r.IntN(100) {
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
		case 2: // one bit flips
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		if tellsNoLie(t, fmt.Sprint("round ", round), dir, b) {
			refused++
		}
	}
	t.Logf("%d of 300 were refused", refused)
}

// A file that is cut off anywhere is refused, unless only what is of no use is missing.
func TestOpenTorn(t *testing.T) {
	t.Parallel()
	dir, whole := hundred(t)
	refused := 0
	for size := 0; size < len(whole); size += 4096 {
		if tellsNoLie(t, fmt.Sprint(size, " bytes"), dir, whole[:size]) {
			refused++
		}
	}
	t.Logf("%d of %d were refused", refused, len(whole)/4096)
	if refused < 10 {
		t.Error("too few")
	}
}

// The file is deleted while it is open, alone or with its directory: it is written again.
func TestDeletedFile(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(dir string) error{
		"file":      func(dir string) error { return os.Remove(filepath.Join(dir, "state.db")) },
		"directory": os.RemoveAll,
		"moved":     func(dir string) error { return os.Rename(dir, dir+"-moved") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a second store waits for the lock
			dir := filepath.Join(t.TempDir(), "a", "b")
			s := open(t, dir)
			for i := range 3 {
				if err := s.PutPort(port(i)); err != nil {
					t.Fatal(err)
				}
				if err := remove(dir); err != nil {
					t.Fatal(err)
				}
				if i == 1 {
					if err := s.Check(); err != nil {
						t.Fatal(err)
					}
					if _, err := os.Stat(filepath.Join(dir, "state.db")); err != nil {
						t.Error(err)
					}
				}
				os.RemoveAll(dir + "-moved")
			}
			if err := s.PutPort(port(3)); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Open(dir, silent); code(err) != api.CodeConflict {
				t.Errorf("a second store: %v", err)
			}
			s.Close()
			s = open(t, dir)
			if ports, err := s.Ports(); err != nil || len(ports) != 4 || len(s.Damaged()) > 0 {
				t.Errorf("%d ports, %v", len(ports), err)
			}
		})
	}
}

// Where it can't be written again, changes are refused; reading goes on.
func TestDeletedFileForGood(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	s := open(t, dir)
	if err := errors.Join(s.PutPort(port(1)), os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := s.PutPort(port(2)); code(err) != api.CodeRefused || !strings.Contains(err.Error(), "something else is in its place") {
		t.Errorf("got %v", err)
	}
	if ports, err := s.Ports(); err != nil || len(ports) != 1 {
		t.Errorf("%d ports, %v", len(ports), err)
	}
	if err := errors.Join(os.Remove(dir), s.PutPort(port(2))); err != nil {
		t.Errorf("with its place free again: %v", err)
	}
}

// Another file in its place is somebody's will: nothing is written until a restart takes it up.
func TestReplacedFile(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	s, o := open(t, dir), open(t, other)
	if err := errors.Join(s.PutPort(port(1)), o.PutPort(port(2)), o.PutPort(port(3)), o.Close()); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "state.db")
	if err := errors.Join(os.Rename(mine, mine+".old"), os.Rename(filepath.Join(other, "state.db"), mine)); err != nil {
		t.Fatal(err)
	}
	if err := s.PutPort(port(4)); code(err) != api.CodeRefused || !strings.Contains(err.Error(), "restart vswitchd") {
		t.Errorf("got %v", err)
	}
	s.Close()
	s = open(t, dir)
	if ports, err := s.Ports(); err != nil || len(ports) != 2 {
		t.Errorf("%d ports, %v", len(ports), err)
	}
}
