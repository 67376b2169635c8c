package api

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestConnectionFilter: what Query writes Set reads, for every key; and what selects nothing that could be is refused, not taken for all.
func TestConnectionFilter(t *testing.T) {
	want := ConnectionFilter{Network: "net1", Port: "web", Router: "main", Proto: 47, State: "closing", Src: netip.MustParsePrefix("10.0.0.0/24"),
		Dst: netip.MustParsePrefix("fd00::1/128"), SrcPort: 4000, DstPort: 80, Translated: true}
	q := want.Query()
	if len(q) != len(ConnectionKeys) {
		t.Errorf("%d keys, want %d: %v", len(q), len(ConnectionKeys), q)
	}
	var got ConnectionFilter
	for _, key := range ConnectionKeys {
		if err := got.Set(key, q.Get(key)); err != nil {
			t.Error(err)
		}
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if q := (&ConnectionFilter{}).Query(); len(q) != 0 {
		t.Errorf("an empty filter has keys: %v", q)
	}
	for _, bad := range [][2]string{{"network", ""}, {"proto", "0"}, {"proto", "256"}, {"proto", "TCP"}, {"state", "open"}, {"src", "10.0.0.0/33"},
		{"src", "fe80::1%eth0"}, {"dst", "::ffff:10.0.0.1"}, {"dst", "web"}, {"sport", "0"}, {"dport", "65536"}, {"translated", "maybe"}, {"ports", "1"}} {
		if err := new(ConnectionFilter).Set(bad[0], bad[1]); err == nil {
			t.Errorf("%s=%q is not refused", bad[0], bad[1])
		}
	}
}

func TestProtocols(t *testing.T) {
	for i, name := range Protocols {
		if n, err := ParseProtocol(name); err != nil || n != protocolNumbers[i] || ProtocolName(n) != name {
			t.Errorf("%s is %d and that %s, %v", name, n, ProtocolName(n), err)
		}
	}
}
