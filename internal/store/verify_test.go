package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vswitch/internal/api"

	"pgregory.net/rapid"
)

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

func somePort(id string, size int) PortRecord {
	labels := map[string]string{"l": strings.Repeat("x", size)}
	return PortRecord{Port: api.Port{ID: id, Name: "p", Network: "n", Labels: labels}, Phase: PhaseAdding}
}

// Whatever bbolt writes is found whole, after every change.
func TestVerifyAcceptsWhatIsWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "store")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s, err := Open(dir, silent)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.db.NoSync = true // durability is not the point here
		id := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("id", rapid.IntRange(0, 300).Draw(t, "id")) })
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				ids, size := rapid.SliceOf(id).Draw(t, "ids"), rapid.SampledFrom([]int{0, 100, 3000, 20000}).Draw(t, "size")
				err := s.Update(func(tx *Tx) (err error) {
					for _, id := range ids {
						err = errors.Join(err, tx.PutPort(somePort(id, size)), tx.PutNetwork(api.Network{ID: id, Name: "n"}))
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			},
			"delete": func(t *rapid.T) {
				ids := rapid.SliceOf(id).Draw(t, "ids")
				err := s.Update(func(tx *Tx) (err error) {
					for _, id := range ids {
						err = errors.Join(err, tx.DeletePort(id), tx.DeleteNetwork(id))
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				file, err := os.ReadFile(filepath.Join(dir, stateName))
				if err != nil {
					t.Fatal(err)
				}
				if err := verify(file); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

// wholeFile returns a state file of some twenty pages.
func wholeFile(t testing.TB) []byte {
	dir := t.TempDir()
	s, err := Open(dir, silent)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if err := s.PutPort(somePort(fmt.Sprint("id", i), 100*i%1500)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	file, err := os.ReadFile(filepath.Join(dir, stateName))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Each four bytes of a patch are an offset and a byte to be put there: what then passes as whole can be read.
func FuzzOpen(f *testing.F) {
	whole := wholeFile(f)
	f.Add([]byte{0, 0, 16, 0})
	f.Add([]byte{0, 0x20, 16, 0xff, 0, 0x30, 8, 1})
	f.Fuzz(func(t *testing.T, patch []byte) {
		file := append([]byte{}, whole...)
		for ; len(patch) >= 4; patch = patch[4:] {
			at := int(patch[0])<<16 | int(patch[1])<<8 | int(patch[2])
			file[at%len(file)] = patch[3]
		}
		if verify(file) != nil {
			return
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateName), file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, silent)
		if err != nil {
			if e := new(api.Error); !errors.As(err, &e) {
				t.Fatal(err)
			}
			return
		}
		defer s.Close()
		if _, err := s.Ports(); err != nil {
			t.Fatal(err)
		}
		if err := s.PutPort(somePort("another", 10)); err != nil {
			t.Fatal(err)
		}
	})
}
