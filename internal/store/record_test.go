package store

import (
	"net/netip"
	"testing"

	"vswitch/internal/api"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var comparable = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

func TestDecodeErrors(t *testing.T) {
	if _, err := decodePort("p", []byte(`{"version":1}`)); err == nil || err.Error() != "its checksum is wrong" {
		t.Errorf("without checksum: %v", err)
	}
	for _, c := range []struct{ name, value, want string }{
		{"no JSON", "\x00\x00", "invalid character '\\x00' looking for beginning of value"},
		{"more behind", `{"version":1}{}`, "invalid character '{' after top-level value"},
		{"nothing", `null`, "its version is 0, not 1"},
		{"other id", `{"version":1,"port":{"id":"q"}}`, `it is about port "q"`},
		{"no name", `{"version":1,"port":{"id":"p"}}`, `port name "" is not allowed: use 1 to 64 letters, digits, '_' and '-', starting with a letter or digit`},
		{"no phase", `{"version":1,"port":{"id":"p","name":"a","network":"n"}}`, `there is no phase ""`},
		{"no network", `{"version":1,"port":{"id":"p","name":"a"},"phase":"adding"}`, `network name "" is not allowed: use 1 to 64 letters, digits, '_' and '-', starting with a letter or digit`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := decodePort("p", Seal(c.value)); err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// A field that a later daemon adds within the same version is no damage.
func TestDecodeIgnoresNewFields(t *testing.T) {
	r, err := decodePort("p", Seal(`{"version":1,"port":{"id":"p","name":"a","network":"n","colour":"red"},"phase":"deleting","more":1}`))
	want := PortRecord{Port: api.Port{ID: "p", Name: "a", Network: "n"}, Phase: PhaseDeleting}
	if diff := cmp.Diff(want, r); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// What decodes also encodes, and to the same again.
func FuzzDecode(f *testing.F) {
	f.Add("p", []byte(`{"version":1,"port":{"id":"p","name":"a","network":"n","ips":["10.0.0.2/24"],"native":0},"phase":"present","device":{"ifindex":3}}`))
	f.Add("n", []byte(`{"version":1,"network":{"id":"n","name":"n","subnets":[{"prefix":"fd00::/64","gateway":"fd00::1"}]}}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if p, err := decodePort(key, Seal(string(value))); err == nil {
			again := reencode(t, p, encodePort, decodePort, p.Port.ID)
			p.Port.Status = api.PortStatus{}
			if diff := cmp.Diff(p, again, comparable, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("port (-want +got):\n%s", diff)
			}
		}
		if n, err := decodeNetwork(key, Seal(string(value))); err == nil {
			again := reencode(t, n, encodeNetwork, decodeNetwork, n.ID)
			n.Ports = 0
			if diff := cmp.Diff(n, again, comparable, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("network (-want +got):\n%s", diff)
			}
		}
	})
}

func reencode[T any](t *testing.T, r T, encode func(T) ([]byte, error), decode func(string, []byte) (T, error), id string) T {
	b, err := encode(r)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	again, err := decode(id, b)
	if err != nil {
		t.Fatalf("decode %s: %v", b, err)
	}
	return again
}
