package api_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"vswitch/internal/api"
)

func TestParsePublish(t *testing.T) {
	for in, want := range map[string]string{
		"80":                                     "80/tcp",
		"8080:80":                                "8080:80/tcp",
		"53:53/udp":                              "53:53/udp",
		"9000-9009/sctp":                         "9000-9009/sctp",
		"8000-8009:80-89":                        "8000-8009:80-89/tcp",
		"7-7:9":                                  "7:9/tcp",
		"127.0.0.1:8080:80":                      "127.0.0.1:8080:80/tcp",
		"127.0.0.1:80":                           "127.0.0.1:80/tcp",
		"127.0.0.1::80":                          "127.0.0.1:80/tcp",
		"0.0.0.0:8080:80":                        "0.0.0.0:8080:80/tcp",
		"[::]:8080:80":                           "[::]:8080:80/tcp",
		"[2001:DB8::1]:1-2:3-4/udp":              "[2001:db8::1]:1-2:3-4/udp",
		"[::1]::80":                              "[::1]:80/tcp",
		"1-65535:1-65535":                        "1-65535:1-65535/tcp",
		"8080:80 from 10.0.0.0/8,::1,10.0.0.0/8": "8080:80/tcp from 10.0.0.0/8,::1/128",
	} {
		p, err := api.ParsePublish(in)
		if err != nil || p.String() != want {
			t.Errorf("%s: %v, %v; want %s", in, p, err, want)
		}
		again, err := api.ParsePublish(p.String())
		if err != nil || !again.Equal(p) {
			t.Errorf("%v is read as %v, %v", p, again, err)
		}
	}
}

func TestParsePublishRefuses(t *testing.T) {
	for in, words := range map[string]string{
		"":                         "port is missing",
		"0":                        `port "0": use a number from 1 to 65535`,
		"8080:0":                   `port "0"`,
		"0:80":                     `port "0"`,
		"65536":                    `port "65536"`,
		"1:99999999999999999999":   "use a number",
		"-80":                      `port ""`,
		"80-":                      `port ""`,
		"+80":                      `port "+80"`,
		"90-80":                    "ends before it starts",
		"9-8:80-90":                "ends before it starts",
		"8000-8010:80":             "11 ports of ours and 1 of the container",
		"8000:80-90":               "1 ports of ours and 11",
		"80/icmp":                  `protocol "icmp"`,
		"80/":                      `protocol ""`,
		"80/TCP":                   `protocol "TCP"`,
		":80":                      "nothing before the colon",
		"8080:":                    "the container's port is missing",
		"1.2.3.4":                  "the port after the address is missing",
		"1.2.3.4:":                 "the container's port is missing",
		"1.2.3:80":                 "is no address",
		"256.0.0.1:80:80":          "is no address",
		"224.0.0.1:80:80":          "no address to listen on",
		"255.255.255.255:80:80":    "no address to listen on",
		"[ff02::1]:80:80":          "no address to listen on",
		"[fe80::1%eth0]:80:80":     "no address to listen on",
		"[::ffff:1.2.3.4]:80:80":   "no address to listen on",
		"[fe80::1]:80:80":          "no address to listen on",
		"[1.2.3.4:80":              "use [ADDRESS]:",
		"[::1]80":                  "use [ADDRESS]:",
		"[x]:80":                   "is no address",
		"fd00::1:8080:80":          "too many colons",
		"1:2:3":                    "too many colons",
		"localhost:80:80":          "too many colons",
		"http":                     `port "http"`,
		"80 from ":                 "is no prefix",
		"80 from 10.0.0.1/8":       "bits behind its length: use 10.0.0.0/8",
		"80 from 10.0.0.0/8,x":     "is no prefix",
		"80 from ::ffff:10.0.0.1":  "is no prefix",
		strings.Repeat("x", 1<<20): "use a number",
	} {
		_, err := api.ParsePublish(in)
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeInvalid || !strings.Contains(err.Error(), words) || len(err.Error()) > 1000 {
			t.Errorf("%.40q: %v; want %s", in, err, words)
		}
	}
}

func TestPublishAsks(t *testing.T) {
	for _, c := range []struct {
		asked, has string
		want       bool
	}{
		{"80", "8080:80", true}, {"80", "1.2.3.4:8080:80 from 10.0.0.0/8", true}, {"80/udp", "8080:80", false}, {"8080:80", "8080:80", true},
		{"8081:80", "8080:80", false}, {"1.2.3.4:80", "8080:80", false}, {"80 from ::/0", "8080:80", false}, {"80-89", "8080:80", false},
	} {
		asked, err := api.ParsePublish(c.asked)
		has, err2 := api.ParsePublish(c.has)
		if err != nil || err2 != nil || asked.Asks(&has) != c.want {
			t.Errorf("%s asks for %s: not %v; %v, %v", c.asked, c.has, c.want, err, err2)
		}
	}
}

// FuzzParsePublish: what is read can be written, and is read as the same; nothing panics.
func FuzzParsePublish(f *testing.F) {
	for _, s := range []string{"80", "8080:80/udp", "[fd00::1]:1-2:3-4/sctp from 10.0.0.0/8,::1/128", "1.2.3.4::5", "0.0.0.0:65535:65535"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := api.ParsePublish(s)
		if err != nil {
			return
		}
		if p.Port == 0 || p.Last < p.Port || p.HostPort != 0 && p.HostEnd() < p.HostPort {
			t.Errorf("%q is read as %+v", s, p)
		}
		b, err := json.Marshal(p)
		var again api.Publish
		if err == nil {
			err = json.Unmarshal(b, &again)
		}
		if err != nil || !again.Equal(p) {
			t.Errorf("%q: %s is read as %+v, %v", s, b, again, err)
		}
	})
}
