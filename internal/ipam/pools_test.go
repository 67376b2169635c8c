package ipam_test

import (
	"net/netip"
	"slices"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
)

func TestPoolsAssign(t *testing.T) {
	pools, err := ipam.NewPools([]api.Subnet{
		{Prefix: prefix("10.1.0.0/30"), Gateway: addr("10.1.0.1")},
		{Prefix: prefix("fd00::/64"), Gateway: addr("fd00::1")},
		{Prefix: prefix("10.2.0.0/24"), Gateway: addr("10.2.0.1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, asked, want, code string
	}{
		{"one of each family", "", "10.1.0.2/30 fd00::2/64", ""},
		{"the second subnet when the first is full", "", "10.2.0.2/24 fd00::3/64", ""},
		{"asked", "10.2.0.9", "10.2.0.9/24 fd00::4/64", ""},
		{"asked in both families", "fd00::99 10.2.0.10", "fd00::99/64 10.2.0.10/24", ""},
		{"two of one subnet", "10.2.0.11 10.2.0.12", "10.2.0.11/24 10.2.0.12/24 fd00::5/64", ""},
		{"all or none", "10.2.0.20 10.2.0.9", "", api.CodeConflict},
		{"foreign", "10.2.0.20 10.9.0.1", "", api.CodeInvalid},
		{"the refused left nothing", "10.2.0.20", "10.2.0.20/24 fd00::6/64", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			given, err := pools.Assign("p", addrs(c.asked), epoch)
			if code(err) != c.code || !slices.Equal(given, parseAll(c.want)) {
				t.Errorf("got %v (%v), want %s", given, err, c.want)
			}
		})
	}
	given := parseAll("10.2.0.9/24 fd00::4/64")
	pools.Release("p", given, epoch)
	if err := pools.Restore("q", append(given, prefix("10.2.0.10/24"))); code(err) != api.CodeConflict {
		t.Errorf("restore of a taken address: %v", err)
	}
	if err := pools.Restore("q", given); err != nil {
		t.Errorf("restore: %v", err)
	}
}

func TestPoolsWithoutSubnet(t *testing.T) {
	var none ipam.Pools
	if given, err := none.Assign("p", nil, epoch); err != nil || given != nil {
		t.Errorf("got %v (%v), want nothing", given, err)
	}
	if _, err := none.Assign("p", []netip.Addr{addr("10.0.0.1")}, epoch); code(err) != api.CodeInvalid {
		t.Errorf("got %v, want %s", err, api.CodeInvalid)
	}
}

// What a failed assignment touched is free at once, and the next one comes in sequence.
func TestPoolsExhaustedFamily(t *testing.T) {
	pools, err := ipam.NewPools([]api.Subnet{{Prefix: prefix("fd00::/127")}, {Prefix: prefix("10.0.0.0/30")}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := pools.Assign("p", nil, epoch); err != nil {
			t.Fatal(err)
		}
	}
	pools.Release("p", parseAll("10.0.0.1/30"), epoch)
	if given, err := pools.Assign("q", nil, epoch); code(err) != api.CodeExhausted || given != nil {
		t.Errorf("got %v (%v), want %s", given, err, api.CodeExhausted)
	}
	if given, err := pools.Assign("q", addrs("10.0.0.1 fd00::1"), epoch); code(err) != api.CodeConflict || given != nil {
		t.Errorf("got %v (%v), want %s", given, err, api.CodeConflict)
	}
	if a, err := pools[1].Allocate("q", epoch); err != nil || a != addr("10.0.0.1") {
		t.Errorf("got %v (%v)", a, err)
	}
}
