package ipam_test

import (
	"net"
	"testing"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
)

func TestChooseMAC(t *testing.T) {
	for _, c := range []struct {
		name, asked, ips string
		want, code       string // want "" is a random one
	}{
		{"default", "", "fd00::2/64 172.17.0.2/16", "02:42:ac:11:00:02", ""},
		{"from IP", "from-ip", "172.17.0.2/16", "02:42:ac:11:00:02", ""},
		{"default without IPv4", "", "fd00::2/64", "", ""},
		{"from IP without IPv4", "from-ip", "fd00::2/64", "", api.CodeInvalid},
		{"random", "random", "172.17.0.2/16", "", ""},
		{"named", "aa:bb:cc:dd:ee:ff", "172.17.0.2/16", "aa:bb:cc:dd:ee:ff", ""},
		{"with dashes", "AA-BB-CC-DD-EE-FF", "", "aa:bb:cc:dd:ee:ff", ""},
		{"group", "01:00:5e:00:00:01", "", "", api.CodeInvalid},
		{"broadcast", "ff:ff:ff:ff:ff:ff", "", "", api.CodeInvalid},
		{"zero", "00:00:00:00:00:00", "", "", api.CodeInvalid},
		{"short", "02:42:ac:11:00", "", "", api.CodeInvalid},
		{"EUI-64", "02:42:ac:11:00:02:03:04", "", "", api.CodeInvalid},
		{"nonsense", "fromip", "", "", api.CodeInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			mac, err := ipam.ChooseMAC(c.asked, parseAll(c.ips), random())
			if code(err) != c.code {
				t.Fatalf("got %v, want code %q", err, c.code)
			}
			switch got := net.HardwareAddr(mac[:]).String(); {
			case err != nil:
			case c.want == "" && (mac[0]&3 != 2 || mac == [6]byte{2}):
				t.Errorf("%s is no random local unicast address", got)
			case c.want != "" && got != c.want:
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
