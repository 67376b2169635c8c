package ipam_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
)

func TestChange(t *testing.T) {
	have := []api.Subnet{
		{Prefix: prefix("10.5.0.0/16"), Gateway: addr("10.5.0.1"), Range: prefix("10.5.8.0/24")},
		{Prefix: prefix("fd00:5::/64"), Gateway: addr("fd00:5::1")},
	}
	for _, c := range []struct {
		name      string
		change    api.NetworkChange
		noGateway bool
		want      string // prefix,gateway,range ... or words of the error
	}{
		{name: "nothing", want: "10.5.0.0/16,10.5.0.1,10.5.8.0/24 fd00:5::/64,fd00:5::1,"},
		{name: "more", change: api.NetworkChange{AddSubnets: parseAll("10.6.0.0/16")}, want: "10.5.0.0/16,10.5.0.1,10.5.8.0/24 fd00:5::/64,fd00:5::1, 10.6.0.0/16,10.6.0.1,"},
		{name: "one of the defaults", change: api.NetworkChange{AddSubnets: parseAll("0.0.0.0/24")}, want: "10.5.0.0/16,10.5.0.1,10.5.8.0/24 fd00:5::/64,fd00:5::1, 172.17.1.0/24,172.17.1.1,"},
		{name: "less", change: api.NetworkChange{RemoveSubnets: parseAll("10.5.0.0/16")}, want: "fd00:5::/64,fd00:5::1,"},
		{name: "none", change: api.NetworkChange{RemoveSubnets: parseAll("10.5.0.0/16 fd00:5::/64")}, want: ""},
		{name: "a larger one instead", change: api.NetworkChange{RemoveSubnets: parseAll("10.5.0.0/16"), AddSubnets: parseAll("10.4.0.0/15"), Gateways: addrs("10.4.0.9")},
			want: "fd00:5::/64,fd00:5::1, 10.4.0.0/15,10.4.0.9,"},
		{name: "gateways", change: api.NetworkChange{Gateways: addrs("10.5.0.254 fd00:5::9")}, want: "10.5.0.0/16,10.5.0.254,10.5.8.0/24 fd00:5::/64,fd00:5::9,"},
		{name: "no gateway", noGateway: true, want: "10.5.0.0/16,,10.5.8.0/24 fd00:5::/64,,"},
		{name: "range", change: api.NetworkChange{Ranges: parseAll("10.5.9.0/24")}, want: "10.5.0.0/16,10.5.0.1,10.5.9.0/24 fd00:5::/64,fd00:5::1,"},
		{name: "no range", change: api.NetworkChange{Ranges: parseAll("10.5.0.0/16")}, want: "10.5.0.0/16,10.5.0.1, fd00:5::/64,fd00:5::1,"},
		{name: "unknown one to remove", change: api.NetworkChange{RemoveSubnets: parseAll("10.5.0.0/17")}, want: "no subnet 10.5.0.0/17 to remove"},
		{name: "overlap with its own", change: api.NetworkChange{AddSubnets: parseAll("10.5.1.0/24")}, want: "overlaps 10.5.0.0/16"},
		{name: "overlap with another's", change: api.NetworkChange{AddSubnets: parseAll("10.7.1.0/24")}, want: "overlaps 10.7.0.0/16 of network web"},
		{name: "host bits", change: api.NetworkChange{AddSubnets: parseAll("10.8.1.1/24")}, want: "did you mean 10.8.1.0/24?"},
		{name: "gateway elsewhere", change: api.NetworkChange{Gateways: addrs("10.8.0.1")}, want: "in none of the network's subnets"},
		{name: "two gateways", change: api.NetworkChange{Gateways: addrs("10.5.0.2 10.5.0.3")}, want: "has two gateways"},
		{name: "gateway and none", change: api.NetworkChange{Gateways: addrs("10.5.0.2")}, noGateway: true, want: "contradicts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			others := []ipam.Owned{{Network: "web", Prefix: prefix("10.7.0.0/16")}}
			got, err := ipam.Change(have, &c.change, c.noGateway, others, parseAll("172.17.0.0/24"), random())
			if err != nil {
				if c.want == "" || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error is %v, want %q", err, c.want)
				}
				return
			}
			if s := subnetText(got); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
			if have[0].Gateway != addr("10.5.0.1") || have[0].Range != prefix("10.5.8.0/24") {
				t.Errorf("what was given is changed: %v", have)
			}
		})
	}
	if _, err := ipam.Change(have, &api.NetworkChange{}, false, []ipam.Owned{{Network: "web", Prefix: prefix("10.5.0.0/24")}}, nil, random()); err == nil {
		t.Error("what stays overlaps with another network's on the new router")
	}
}

func subnetText(subnets []api.Subnet) string {
	text := func(valid bool, s string) string { return map[bool]string{true: s}[valid] }
	var list []string
	for _, s := range subnets {
		list = append(list, s.Prefix.String()+","+text(s.Gateway.IsValid(), s.Gateway.String())+","+text(s.Range.IsValid(), s.Range.String()))
	}
	return strings.Join(list, " ")
}

// TestPoolsChange: leases and rests outlive a change of the subnet.
func TestPoolsChange(t *testing.T) {
	now := time.Unix(1000, 0)
	subnet := api.Subnet{Prefix: prefix("10.5.0.0/28"), Gateway: addr("10.5.0.1")}
	ps, err := ipam.NewPools([]api.Subnet{subnet})
	if err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{"a", "b", "c"} { // 10.5.0.2 to 10.5.0.4
		if _, err := ps.Assign(owner, nil, now); err != nil {
			t.Fatal(err)
		}
	}
	ps.Release("b", parseAll("10.5.0.3/28"), now)
	moved := subnet
	moved.Gateway = addr("10.5.0.2")
	if _, err := ps.Change([]api.Subnet{moved}); err == nil || !strings.Contains(err.Error(), "taken by port a") {
		t.Errorf("a gateway at a's address: %v", err)
	}
	moved.Gateway, moved.Range = addr("10.5.0.5"), prefix("10.5.0.0/29")
	changed, err := ps.Change([]api.Subnet{moved})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, owner := range []string{"d", "e", "f"} {
		given, err := changed.Assign(owner, nil, now)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, given[0].String())
	}
	// The old gateway's, the rest of the range, and at last the one at rest.
	if s := strings.Join(got, " "); s != "10.5.0.1/28 10.5.0.6/28 10.5.0.7/28" {
		t.Errorf("given: %s", s)
	}
	if given, err := changed.Assign("g", nil, now); err != nil || given[0] != prefix("10.5.0.3/28") {
		t.Errorf("the address at rest: %v, %v", given, err)
	}
	if _, err := changed.Reserve("x", []netip.Addr{addr("10.5.0.8"), addr("10.5.0.4")}); err == nil || !strings.Contains(err.Error(), "taken by port c") {
		t.Errorf("c's address: %v", err)
	}
	if given, err := changed.Reserve("x", []netip.Addr{addr("10.5.0.8")}); err != nil || given[0] != prefix("10.5.0.8/28") {
		t.Errorf("an address outside the range that was reserved and given back: %v, %v", given, err)
	}
	same, err := changed.Change([]api.Subnet{moved, {Prefix: prefix("10.6.0.0/24")}})
	if err != nil || same[0] != changed[0] || len(same) != 2 {
		t.Errorf("an unchanged subnet has another pool: %v", err)
	}
}
