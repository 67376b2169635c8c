package iperf_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/bench/iperf"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, file string
		want       iperf.Report
	}{
		{"one stream", "testdata/one.json", iperf.Report{Gbits: 16.6, GbitPerS: 16.59, Retransmits: 12}},
		{"both ways", "testdata/bidir.json", iperf.Report{Gbits: 24, GbitPerS: 24.5, Retransmits: 3}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text, err := os.ReadFile(test.file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := iperf.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"iperf3's own error", `{"start":{},"error":"unable to connect to server: Connection refused"}`, "Connection refused"},
		{"nothing received", `{"end":{}}`, "received"},
		{"cut", `{"end":`, "parse"},
		{"empty", ``, "parse"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := iperf.Parse([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestArgs(t *testing.T) {
	to := netip.MustParseAddrPort("[fd77::3]:5301")
	got := strings.Join(iperf.Transfer{To: to, Streams: 4, Both: true, Seconds: 1.5}.Args(), " ")
	want := "-J -c fd77::3 -p 5301 -t 2 -P 4 --connect-timeout 3000 --bidir"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
