package fdstore

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 1, 1, 'a', 2, 'b', 'c'})
	f.Add([]byte{1, 2, 255})
	f.Add([]byte{2, 3})
	f.Add([]byte{1, 0x82, 'n', 'o'})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			if !errors.Is(err, errBadMessage) {
				t.Errorf("decode(%q): %v is no errBadMessage", b, err)
			}
			return
		}
		if again := m.encode(); !bytes.Equal(b, again) {
			t.Errorf("%q became %q", b, again)
		}
	})
}
