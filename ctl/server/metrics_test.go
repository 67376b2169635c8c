package server_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"vswitch/ctl/server/servertest"
	"vswitch/internal/api"
)

func TestMetrics(t *testing.T) {
	b := servertest.New()
	b.Dropped = append(b.Dropped, api.Drop{Port: "web", Reason: "vlan", Packets: 2})
	text := ask(t, b, discard, "GET", "/metrics", "").Body.String()
	for _, want := range []string{
		`vswitch_port_rx_packets_total{network="net1",port="web"} 100`,
		`vswitch_port_kernel_tx_dropped_total{network="net1",port="web"} 5`,
		`vswitch_drops_total{port="web",reason="vlan"} 3`,
		`vswitch_network_macs_evicted_port_total{network="net1"} 4`,
		`vswitch_worker_flow_hits_total{worker="1"} 95`,
		`# TYPE vswitch_worker_flow_entries gauge`,
		`vswitch_uplink_up{router="main",uplink="wan"} 1`, `vswitch_uplink_up{router="main",uplink="auto"} 0`,
		`vswitch_build_info{go="go1.26",kernel="6.18.0",version="0.1.0"} 1`,
		"vswitch_start_time_seconds 1.767323045e+09",
		"go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

// deaf is a switch that cannot count.
type deaf struct{ *servertest.Backend }

func (deaf) Stats(context.Context) (api.Stats, error) { return api.Stats{}, errors.New("no answer") }

func TestMetricsFailWithTheBackend(t *testing.T) {
	if w := ask(t, deaf{servertest.New()}, discard, "GET", "/metrics", ""); w.Code != 500 || !strings.Contains(w.Body.String(), "no answer") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
