package config_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vswitch/internal/api"
	"vswitch/internal/config"
)

const example = `networks:
  "1":
    no_subnet: true
    labels:
      a:b: "x # y"
      "on": "\u202e"
    ports:
      "on":
        netns: container:web
        no_ip: true
        trunk: [10, 20-30]
        native: 10
  empty: {}
  prod:
    subnets: [10.1.0.0/24, fd00:1::/64]
    gateways: [10.1.0.254]
    mtu: 1400
    icc: false
    labels:
      team: web
    ports:
      web:
        type: veth
        netns: /run/netns/web
        ifname: lan0
        mac: "02:00:00:00:00:01"
        ips: [10.1.0.9, fd00:1::9]
        isolated: true
        routes: [10.8.0.0/16 via 10.1.0.1, "fd08::/16 via fd00:1::1"]
        static_fdb:
          - {vlan: 10, mac: "02:00:00:00:00:77"}
          - {mac: "02:00:00:00:00:78"}
routers:
  main:
    routes: [10.8.0.0/16 via 10.1.0.9, "fd08::/16 via fd00:1::8,fd00:1::9 metric 5"]
`

func exampleConfig() api.Config {
	no, native := false, uint16(10)
	return api.Config{Networks: map[string]api.NetworkConfig{
		"1": {NetworkRequest: api.NetworkRequest{NoSubnet: true, Labels: map[string]string{"on": "\u202e", "a:b": "x # y"}}, Ports: map[string]api.PortConfig{
			"on": {PortRequest: api.PortRequest{Netns: "container:web", Trunk: []api.VLANRange{{First: 10, Last: 10}, {First: 20, Last: 30}},
				Native: &native, NoIP: true}}}},
		"empty": {},
		"prod": {
			NetworkRequest: api.NetworkRequest{MTU: 1400, ICC: &no, Labels: map[string]string{"team": "web"},
				Subnets:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")},
				Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.254")}},
			Ports: map[string]api.PortConfig{"web": {
				PortRequest: api.PortRequest{Netns: "/run/netns/web", Type: "veth", IfName: "lan0", MAC: "02:00:00:00:00:01", Isolated: true,
					IPs: []netip.Addr{netip.MustParseAddr("10.1.0.9"), netip.MustParseAddr("fd00:1::9")},
					Routes: []api.Route{{Prefix: netip.MustParsePrefix("10.8.0.0/16"), Via: netip.MustParseAddr("10.1.0.1")},
						{Prefix: netip.MustParsePrefix("fd08::/16"), Via: netip.MustParseAddr("fd00:1::1")}}},
				StaticFDB: []api.StaticMAC{{VLAN: 10, MAC: "02:00:00:00:00:77"}, {MAC: "02:00:00:00:00:78"}}}},
		}}, Routers: map[string]api.RouterConfig{"main": {Routes: []api.RouteConfig{
		{Prefix: netip.MustParsePrefix("10.8.0.0/16"), NextHops: []netip.Addr{netip.MustParseAddr("10.1.0.9")}},
		{Prefix: netip.MustParsePrefix("fd08::/16"), Metric: 5,
			NextHops: []netip.Addr{netip.MustParseAddr("fd00:1::8"), netip.MustParseAddr("fd00:1::9")}}}}}}
}

var same = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})}

func TestEncode(t *testing.T) {
	if d := cmp.Diff(example, string(config.Encode(exampleConfig()))); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got := string(config.Encode(api.Config{})); got != "networks: {}\n" {
		t.Errorf("nothing is written as %q", got)
	}
}

func TestDecode(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want api.Config
	}{
		"example": {example, exampleConfig()},
		"nothing": {"networks: {}", api.Config{Networks: map[string]api.NetworkConfig{}}},
		"nulls":   {"# all\n---\nnetworks:\n  empty:\n", api.Config{Networks: map[string]api.NetworkConfig{"empty": {}}}},
		"JSON": {`{"networks": {"n": {"mtu": 1400, "ports": {"p": {"pid": 7, "trunk": [{"first": 1, "last": 2}]}}}}}`,
			api.Config{Networks: map[string]api.NetworkConfig{"n": {NetworkRequest: api.NetworkRequest{MTU: 1400}, Ports: map[string]api.PortConfig{
				"p": {PortRequest: api.PortRequest{PID: 7, Trunk: []api.VLANRange{{First: 1, Last: 2}}}}}}}}},
		"aliases": {"networks:\n  n: {labels: &l {a: b}}\n  m: {labels: *l, ports: {p: {trunk: [all]}}}\n",
			api.Config{Networks: map[string]api.NetworkConfig{
				"n": {NetworkRequest: api.NetworkRequest{Labels: map[string]string{"a": "b"}}},
				"m": {NetworkRequest: api.NetworkRequest{Labels: map[string]string{"a": "b"}}, Ports: map[string]api.PortConfig{
					"p": {PortRequest: api.PortRequest{Trunk: []api.VLANRange{{First: 1, Last: 4094}}}}}}}}},
	} {
		got, err := config.Decode([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(tt.want, got, same); d != "" {
			t.Errorf("%s: -want +got:\n%s", name, d)
		}
	}
}

// bombs nest and multiply.
func bombs() map[string]string {
	var laughs strings.Builder
	laughs.WriteString("x0: &x0 [a, a]\n")
	for _, s := range []string{"01", "12", "23", "34", "45", "56", "67", "78", "89"} {
		laughs.WriteString("x" + s[1:] + ": &x" + s[1:] + " [" + strings.Repeat("*x"+s[:1]+", ", 9) + "*x" + s[:1] + "]\n")
	}
	return map[string]string{
		"laughs":    laughs.String(),
		"aliases":   "networks:\n  n: {labels: &l {" + strings.Repeat("a: b, ", 1) + "c: d}}\n" + strings.Repeat("  m: {labels: *l}\n", 1000),
		"brackets":  "networks: " + strings.Repeat("[", 1<<19),
		"braces":    "networks: " + strings.Repeat("{a: ", 1<<18),
		"dashes":    strings.Repeat("- ", 1<<19),
		"questions": strings.Repeat("? ", 1<<19),
		"words":     "networks: [" + strings.Repeat("a, ", 300000) + "]",
		"long":      strings.Repeat("# comment\n", 1<<17),
		"tags":      strings.Repeat("!a ", 1<<17),
		"anchors":   strings.Repeat("&a ", 1<<17),
	}
}

func TestBombs(t *testing.T) {
	for name, text := range bombs() {
		if _, err := config.Decode([]byte(text)); !refused(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func refused(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && (e.Code == api.CodeInvalid || e.Code == api.CodeTooLarge)
}

func TestDecodeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                         "the configuration is empty",
		"# nothing\n":                              "the configuration is empty",
		"{}":                                       "there is no key networks",
		"- a":                                      "line 1, column 1: this is a list where KEY: VALUE pairs are wanted",
		"networks: 7":                              "line 1, column 11: this is the number 7 where KEY: VALUE pairs are wanted",
		"networks:\n  n:\n    mtuu: 7":             `line 3, column 5: unknown key "mtuu": use age,`,
		"networks:\n  n:\n    name: x":             `line 3, column 5: unknown key "name"`,
		"network: {}":                              `line 1, column 1: unknown key "network": use networks`,
		"networks:\n  n: {}\n  n: {}":              "line 3, column 3",
		"networks: {n: {mtu: 1, mtu: 2}}":          "line 1, column 24",
		"networks:\n  n:\n    mtu: many":           "line 3, column 10: this is text where a number is wanted",
		"networks:\n  n:\n    mtu: 1.5":            "line 3, column 10: this is the number 1.5 where a number is wanted",
		"networks:\n  n:\n    mtu: 99999999999":    "line 3, column 10: 99999999999 is out of range",
		"networks:\n  n:\n    icc: 1":              "line 3, column 10: this is the number 1 where true or false is wanted",
		"networks:\n  n:\n    router: 1":           `line 3, column 13: this is the number 1 where text is wanted; put it in "quotes"`,
		"networks:\n  n:\n    subnets: 10.0.0.0/8": "line 3, column 14: this is text where a list is wanted",
		"networks:\n  n:\n    subnets: [10.0.0.0/8, 10.0.0.0]":               "line 3, column 27: netip.ParsePrefix",
		"networks:\n  n:\n    ports: {a: {}}\n  m:\n    ports:\n      a: {}": `line 6, column 7: there is another port "a"`,
		"networks:\n  n:\n    ports: {p: {vlan: 65536}}":                     "65536 is out of range: use 0 to 65535",
		"networks:\n  n:\n    ports: {p: {trunk: [5-x]}}":                    "line 3, column 25: VLANs",
		"networks:\n  n:\n    ports: {p: {routes: [a]}}":                     "line 3, column 26: route",
		"networks:\n  n:\n    labels: {a: 1.10}":                             "line 3, column 17: this is the number 1.10 where text is wanted",
		"networks:\n  n:\n    labels: {[a]: b}":                              "line 3, column",
		"networks:\n\tn: {}":                                                 "line 2, column 1: this is not YAML",
		"networks: {a/b: {}}":                                                `line 1, column 12: network name "a/b" is not allowed`,
		"networks: {n: {ports: {-x: {}}}}":                                   `line 1, column 24: port name "-x" is not allowed`,
		"networks: {}\n---\nnetworks: {}":                                    "line 3, column",
		"networks: !x {}":                                                    "line 1, column 11: tags",
		"networks: *a":                                                       "line 1, column 11: there is no anchor",
		"networks:\n  <<: {n: {}}":                                           "line 2, column 3",
		"networks: {n: {ports: {p: {ips: [{a: b}]}}}}":                       "this is a mapping where an address or other text is wanted",
		"networks: [": "line 1, column 11: this is not YAML",
	} {
		_, err := config.Decode([]byte(text))
		if !refused(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzDecode: any text is read or refused, and what is read can be written and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(example))
	for _, text := range bombs() {
		f.Add([]byte(text[:min(len(text), 2000)]))
	}
	for _, text := range []string{
		"networks:", "networks: {a: {ports: {b: {native: 0}}}}", "networks: &a {b: *a}", "? a\n: b", "a: |\n b\n", "a: >-\n b", "networks: {\"\\x00\": {}}",
		"%YAML 1.2\n---\nnetworks: {}\n...", "networks: {? a : {}}", "networks: {n: {subnets: [\"\"]}}", "networks: {n: {gateways: [\"\", fe80::1%a]}}",
		"networks: {n: {labels: {a: \"\\u2028\", ~: b}}}", "{\"networks\":{\"a\":null}}", "networks: {0x1F: {age: 0o17}}", "\xff\xfe", "networks: {n: {labels: {<<: b}}}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Decode(text)
		if err != nil {
			if !refused(err) {
				t.Fatalf("%v is not refused as invalid", err)
			}
			return
		}
		written := config.Encode(c)
		again, err := config.Decode(written)
		if err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, written)
		}
		if d := cmp.Diff(c, again, same, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("written and read again (-before +after):\n%s\n%s", d, written)
		}
	})
}
