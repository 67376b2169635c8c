package acl_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"vswitch/internal/acl"
	"vswitch/internal/api"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, canonical string }{
		{"web in allow", ""},
		{"port:web out reject", ""},
		{"network:net in deny --log", ""},
		{"web in allow --proto tcp --dport 80", ""},
		{"web in allow --dport=80 --proto=6", "web in allow --proto tcp --dport 80"},
		{"  web  in\tallow\n--log --priority 7 ", "web in allow --priority 7 --log"},
		{"web in allow --priority 32768", "web in allow"},
		{"web in allow --priority 00032768", "web in allow"},
		{"web in allow --proto udp --dport 443,80,81,8000-8099,8050-8200", "web in allow --proto udp --dport 80-81,443,8000-8200"},
		{"web in allow --proto udp --dport 1-100,5-10", "web in allow --proto udp --dport 1-100"},
		{"web in allow --proto sctp --sport 0-65535", ""},
		{"web out deny --src 10.0.0.0/8 --dst 192.168.1.1", ""},
		{"web out deny --src 10.0.0.1/32 --dst 0.0.0.0/0", "web out deny --src 10.0.0.1 --dst 0.0.0.0/0"},
		{"web out deny --src FD00:0::/64 --dst ::1", "web out deny --src fd00::/64 --dst ::1"},
		{"web out deny --src @db --dst @network:other", ""},
		{"web in allow --proto icmp --icmp-type 8", "web in allow --proto icmp --icmp-type echo-request"},
		{"web in allow --proto icmp --icmp-type 3/4", "web in allow --proto icmp --icmp-type destination-unreachable/4"},
		{"web in allow --proto icmpv6 --icmp-type 128", "web in allow --proto icmp6 --icmp-type echo-request"},
		{"web in allow --proto icmp6 --icmp-type 200/255", ""},
		{"web in allow --proto 58", "web in allow --proto icmp6"},
		{"web in allow --proto 255", ""},
		{"web in deny --src-mac 02-42-AC-11-00-02 --dst-mac ff:ff:ff:ff:ff:ff", "web in deny --src-mac 02:42:ac:11:00:02 --dst-mac ff:ff:ff:ff:ff:ff"},
		{"web in deny --src-mac 00:00:00:00:00:00", ""},
		{"web in deny --ethertype 0x806", "web in deny --ethertype arp"},
		{"web in deny --ethertype 35020", "web in deny --ethertype 0x88cc"},
		{"web in deny --proto tcp --ethertype ipv6", ""},
	} {
		want := c.canonical
		if want == "" {
			want = c.text
		}
		r, err := acl.Parse(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := r.String(); got != want {
			t.Errorf("%s: is written %q, want %q", c.text, got, want)
		}
		if again, err := acl.Parse(r.String()); err != nil || again != r {
			t.Errorf("%s: back and forth %+v, %v, want %+v", c.text, again, err, r)
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back acl.Rule
		if err := json.Unmarshal(b, &back); err != nil || back != r {
			t.Errorf("%s: as JSON %s: %+v, %v", c.text, b, back, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "at least three words"},
		{"web in", "at least three words; write: NETWORK|PORT in|out allow|deny|reject"},
		{"we/b in allow", `port or network name "we/b" is not allowed`},
		{"host:web in allow", "use NAME, port:NAME or network:NAME"},
		{"port: in allow", `port name "" is not allowed`},
		{"web inwards allow", `direction "inwards": use in, out`},
		{"web in drop", `action "drop": use allow, deny, reject`},
		{"web in allow --colour red", `"--colour" is not known; write:`},
		{"web in allow proto tcp", `"proto" is not known`},
		{"web in allow --proto", "--proto lacks its value"},
		{"web in allow --proto --log", "--proto lacks its value"},
		{"web in allow --proto= --log", "--proto lacks its value"},
		{"web in allow --log=yes", "--log takes no value"},
		{"web in allow --log --log", "--log is given twice"},
		{"web in allow --src 10.0.0.1 --src 10.0.0.2", "--src is given twice; add a second rule instead"},
		{"web in allow --proto tpc", "use icmp, igmp, tcp, udp"},
		{"web in allow --proto 0", "a protocol number from 1 to 255"},
		{"web in allow --proto 256", "a protocol number from 1 to 255"},
		{"web in allow --src 10.0.0.300", "use an address, a prefix such as 10.0.0.0/8, or @NAME"},
		{"web in allow --src fe80::1%eth0", "use an address, a prefix"},
		{"web in allow --src 10.0.0.1/8", "use 10.0.0.0/8, or 10.0.0.1 for the address alone"},
		{"web in allow --dst ::ffff:10.0.0.1", "write the IPv4 address itself, 10.0.0.1"},
		{"web in allow --dst @", `name "" is not allowed`},
		{"web in allow --dst @a:b", "use NAME, port:NAME or network:NAME"},
		{"web in allow --dport 80", "add --proto tcp, udp, sctp"},
		{"web in allow --proto gre --sport 80", "add --proto tcp, udp, sctp"},
		{"web in allow --proto icmp --dport 80", "add --proto tcp, udp, sctp"},
		{"web in allow --proto tcp --dport 80-", "use ports from 0 to 65535 and ranges"},
		{"web in allow --proto tcp --dport http", "use ports from 0 to 65535 and ranges"},
		{"web in allow --proto tcp --dport 65536", "use ports from 0 to 65535 and ranges"},
		{"web in allow --proto tcp --dport 90-80", "the range 90-80 ends before it begins"},
		{"web in allow --proto tcp --dport " + strings.Repeat("1,", 64) + "2", "lists 65 ports and ranges; a rule takes 64"},
		{"web in allow --icmp-type 8", "--icmp-type needs --proto icmp or --proto icmp6"},
		{"web in allow --proto icmp --icmp-type ping", "use a number from 0 to 255"},
		{"web in allow --proto icmp --icmp-type neighbor-solicitation", "use a number from 0 to 255"},
		{"web in allow --proto icmp --icmp-type 3/x", "the code behind the slash"},
		{"web in allow --proto icmp --icmp-type 8 --sport 3", "ICMP has none: leave them out"},
		{"web in allow --src-mac 02:42", "not a MAC address such as"},
		{"web in allow --dst-mac 02:42:ac:11:00:02:00:00", "--dst-mac"},
		{"web in allow --ethertype 0x5ff", "a number from 0x0600"},
		{"web in allow --ethertype 0x8100", "what is behind the VLAN tags"},
		{"web in allow --ethertype arp --proto tcp", "is not IP"},
		{"web in allow --ethertype arp --src 10.0.0.1", "is not IP"},
		{"web in allow --ethertype ipv6 --src 10.0.0.1", "--ethertype ipv6 and --src 10.0.0.1: one is IPv4 and the other IPv6"},
		{"web in allow --src fd00::/8 --dst 10.0.0.1", "--src fd00::/8 and --dst 10.0.0.1: one is IPv4"},
		{"web in allow --proto icmp6 --dst 10.0.0.1", "--proto icmp6 and --dst 10.0.0.1: one is IPv4"},
		{"web in allow --priority 0", "use a number from 1 to 65535; the highest is asked first"},
		{"web in allow --priority high", "use a number from 1 to 65535"},
		{"web in allow --priority 65536", "use a number from 1 to 65535"},
	} {
		_, err := acl.Parse(c.text)
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeInvalid || !strings.Contains(e.Detail, c.want) {
			t.Errorf("%s:\n  %v\nwant invalid: %s", c.text, err, c.want)
		}
	}
	if _, err := acl.Check(acl.Rule{On: "web", Direction: "in", Action: "deny", Priority: -1}); err == nil {
		t.Error("a priority below 0 passes Check")
	}
}

// FuzzParse: whatever is accepted is written and read back as the same rule, and compiles when its names are known.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"web in allow --proto tcp --dport 80,443 --src 10.0.0.0/8 --log", "net out reject --src @db --dst @network:other --priority 9",
		"web in deny --proto icmp6 --icmp-type 135/0 --src-mac 02:42:ac:11:00:02", "net in deny --ethertype=0x88cc", "a b --c=", "port:x out deny --log=1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := acl.Parse(text)
		if err != nil {
			if e := (*api.Error)(nil); !errors.As(err, &e) || len(e.Detail) > 2000 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, err := acl.Parse(r.String())
		if err != nil || again != r {
			t.Fatalf("%q: %q is read back as %+v, %v, want %+v", text, r.String(), again, err, r)
		}
		r.ID, r.On, r.Src, r.Dst = "r", "network:net", qualified(r.Src), qualified(r.Dst)
		if _, err := acl.Compile(acl.Config{Network: "net", Rules: []acl.Rule{r}}, everybody{}); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// qualified says of a bare name that it is a port's.
func qualified(peer string) string {
	if name, ok := strings.CutPrefix(peer, "@"); ok && !strings.Contains(name, ":") {
		return "@port:" + name
	}
	return peer
}

// everybody is a world where each name is both a port's and a network's.
type everybody struct{}

func (everybody) Port(string) (acl.Port, bool) { return acl.Port{ID: web}, true }

func (everybody) Network(string) ([]netip.Prefix, bool) { return nil, true }
