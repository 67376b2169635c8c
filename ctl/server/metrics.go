package server

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vswitch/internal/api"
)

// scrapeTime is how long the backend may take to tell its counters.
const scrapeTime = 5 * time.Second

// metrics answers /metrics. The switch's counters are read when they are scraped; nothing is kept between two scrapes.
type metrics struct {
	backend  measured
	clients  atomic.Int64 // connections to the control sockets that have a place
	requests *prometheus.CounterVec
	evicted  prometheus.Counter // connections that were closed to make room
	refused  prometheus.Counter // those that found no place
	handler  http.Handler
}

// measured is what metrics are read from.
type measured interface {
	Inspector
	Uplinks(ctx context.Context) ([]api.Uplink, error)
}

func newMetrics(b measured) *metrics {
	m := &metrics{backend: b, requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vswitch_api_requests_total", Help: "Requests answered on the control socket.",
	}, []string{"method", "status"}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{Name: "vswitch_api_evicted_total",
			Help: "Connections that were closed to make room for others, while they waited for their client."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "vswitch_api_refused_total",
			Help: "Connections for which there was no room."}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, m.requests, m.evicted, m.refused, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vswitch_api_clients", Help: "Connections to the control sockets."},
			func() float64 { return float64(m.clients.Load()) }))
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m
}

func (m *metrics) serve(w http.ResponseWriter, r *http.Request) {
	setWriteDeadline(w, clientOf(r).answerTime())
	m.handler.ServeHTTP(w, r)
}

// count counts a request. Methods that HTTP does not define are counted together: a client must not make up metrics.
func (m *metrics) count(method string, status int) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, strconv.Itoa(status)).Inc()
}

// counter is one metric of a row of type T.
type counter[T any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(T) float64
}

func port(name, help string, read func(api.PortStats) uint64) counter[api.PortStats] {
	return counter[api.PortStats]{prometheus.NewDesc("vswitch_port_"+name, help, []string{"port", "network"}, nil),
		prometheus.CounterValue, func(p api.PortStats) float64 { return float64(read(p)) }}
}

func worker(name, help string, kind prometheus.ValueType, read func(api.WorkerStats) uint64) counter[api.WorkerStats] {
	return counter[api.WorkerStats]{prometheus.NewDesc("vswitch_worker_"+name, help, []string{"worker"}, nil),
		kind, func(w api.WorkerStats) float64 { return float64(read(w)) }}
}

func network(name, help string, kind prometheus.ValueType, read func(api.NetworkStats) uint64) counter[api.NetworkStats] {
	return counter[api.NetworkStats]{prometheus.NewDesc("vswitch_network_"+name, help, []string{"network"}, nil),
		kind, func(n api.NetworkStats) float64 { return float64(read(n)) }}
}

func routers(name, help string, read func(api.RouterStats) uint64) counter[api.RouterStats] {
	return counter[api.RouterStats]{prometheus.NewDesc("vswitch_router_"+name, help, []string{"router"}, nil),
		prometheus.CounterValue, func(r api.RouterStats) float64 { return float64(read(r)) }}
}

func fragments(name, help string, read func(api.FragmentStats) int) counter[api.FragmentStats] {
	return counter[api.FragmentStats]{prometheus.NewDesc("vswitch_fragments_"+name, help, nil, nil), gauge, func(f api.FragmentStats) float64 { return float64(read(f)) }}
}

func connections(name, help string, kind prometheus.ValueType, read func(api.ConnectionStats) uint64) counter[api.ConnectionStats] {
	return counter[api.ConnectionStats]{prometheus.NewDesc("vswitch_connections"+name, help, nil, nil),
		kind, func(c api.ConnectionStats) float64 { return float64(read(c)) }}
}

var portCounters = []counter[api.PortStats]{
	port("rx_packets_total", "Packets from the container; a super-frame counts as its segments.",
		func(p api.PortStats) uint64 { return p.RxPackets }),
	port("rx_bytes_total", "Bytes from the container.", func(p api.PortStats) uint64 { return p.RxBytes }),
	port("rx_frames_total", "Reads from the port; a super-frame counts once.", func(p api.PortStats) uint64 { return p.RxFrames }),
	port("tx_packets_total", "Packets to the container; a super-frame counts as its segments.",
		func(p api.PortStats) uint64 { return p.TxPackets }),
	port("tx_bytes_total", "Bytes to the container.", func(p api.PortStats) uint64 { return p.TxBytes }),
	port("tx_frames_total", "Writes to the port, after coalescing.", func(p api.PortStats) uint64 { return p.TxFrames }),
	port("kernel_rx_dropped_total", "Packets from the container that the kernel dropped before they were read.",
		func(p api.PortStats) uint64 { return p.KernelRxDropped }),
	port("kernel_tx_dropped_total", "Packets to the container that the device dropped.",
		func(p api.PortStats) uint64 { return p.KernelTxDropped }),
	port("moved_total", "Times the port was moved to a worker for slow ports.",
		func(p api.PortStats) uint64 { return uint64(p.Moved) }),
}

const total, gauge = prometheus.CounterValue, prometheus.GaugeValue

var workerCounters = []counter[api.WorkerStats]{
	worker("ports", "Ports that the worker serves.", gauge, func(w api.WorkerStats) uint64 { return uint64(w.Ports) }),
	worker("turns_total", "Turns of the worker's loop.", total, func(w api.WorkerStats) uint64 { return w.Turns }),
	worker("sleeps_total", "Times the worker blocked for want of frames.", total, func(w api.WorkerStats) uint64 { return w.Sleeps }),
	worker("spin_wins_total", "Times a frame came while the worker spun.", total, func(w api.WorkerStats) uint64 { return w.SpinWins }),
	worker("flow_hits_total", "Frames decided by a cached flow.", total, func(w api.WorkerStats) uint64 { return w.FlowHits }),
	worker("flow_misses_total", "Frames without a cached flow.", total, func(w api.WorkerStats) uint64 { return w.FlowMisses }),
	worker("flow_invalid_total", "Cached flows found outdated.", total, func(w api.WorkerStats) uint64 { return w.FlowInvalid }),
	worker("flow_entries", "Cached flows.", gauge, func(w api.WorkerStats) uint64 { return uint64(w.FlowEntries) }),
	worker("coalesced_total", "Frames merged into an open super-frame.", total, func(w api.WorkerStats) uint64 { return w.Coalesced }),
}

var networkCounters = []counter[api.NetworkStats]{
	network("macs", "Entries of the MAC table.", gauge, func(n api.NetworkStats) uint64 { return uint64(n.MACs) }),
	network("macs_learned_total", "MACs learned.", total, func(n api.NetworkStats) uint64 { return n.Learned }),
	network("macs_moved_total", "MACs that moved to another port.", total, func(n api.NetworkStats) uint64 { return n.Moved }),
	network("macs_expired_total", "MACs forgotten since they were not used.", total, func(n api.NetworkStats) uint64 { return n.Expired }),
	network("macs_evicted_port_total", "MACs that made room on a port at its limit.", total,
		func(n api.NetworkStats) uint64 { return n.EvictedPort }),
	network("macs_evicted_table_total", "MACs that made room in a full table.", total,
		func(n api.NetworkStats) uint64 { return n.EvictedTable }),
	network("macs_refused_static_total", "Frames whose source a static entry places elsewhere.", total,
		func(n api.NetworkStats) uint64 { return n.RefusedStatic }),
	network("macs_damped_total", "MACs that moved too often and were held.", total, func(n api.NetworkStats) uint64 { return n.Damped }),
	network("macs_held_total", "Moves refused while a MAC was held.", total, func(n api.NetworkStats) uint64 { return n.Held }),
	network("rules", "Rules of the network and its ports.", gauge, func(n api.NetworkStats) uint64 { return uint64(n.Rules) }),
	network("rule_allowed_packets", "Packets that the rules there are have allowed.", gauge, func(n api.NetworkStats) uint64 { return n.RuleAllowed }),
	network("rule_denied_packets", "Packets that the rules there are have denied.", gauge, func(n api.NetworkStats) uint64 { return n.RuleDenied }),
	network("rule_rejected_packets", "Packets that the rules there are have rejected.", gauge, func(n api.NetworkStats) uint64 { return n.RuleRejected }),
}

var routerCounters = []counter[api.RouterStats]{
	routers("icmp_errors_sent_total", "ICMP errors sent.", func(r api.RouterStats) uint64 { return r.ErrorsSent }),
	routers("icmp_errors_held_total", "ICMP errors held back, since there are too many.", func(r api.RouterStats) uint64 { return r.ErrorsHeld }),
}

var fragmentGauges = []counter[api.FragmentStats]{
	fragments("datagrams", "Datagrams that come in fragments.", func(f api.FragmentStats) int { return f.Datagrams }),
	fragments("bytes", "Bytes of fragments that wait for the first one.", func(f api.FragmentStats) int { return f.Bytes }),
}

var connectionCounters = []counter[api.ConnectionStats]{
	connections("", "Connections of all routers.", gauge, func(c api.ConnectionStats) uint64 { return uint64(c.Connections) }),
	connections("_bytes", "Memory of the table of connections.", gauge, func(c api.ConnectionStats) uint64 { return uint64(c.Bytes) }),
	connections("_opened_total", "Connections opened.", total, func(c api.ConnectionStats) uint64 { return c.Opened }),
	connections("_expired_total", "Connections unused for their timeout.", total, func(c api.ConnectionStats) uint64 { return c.Expired }),
	connections("_evicted_total", "Connections that made room for others.", total, func(c api.ConnectionStats) uint64 { return c.Evicted }),
	connections("_refused_total", "New connections for which there was no room.", total, func(c api.ConnectionStats) uint64 { return c.Refused }),
	connections("_no_port_total", "New connections for which there was no external port.", total,
		func(c api.ConnectionStats) uint64 { return c.NoPort }),
	connections("_shared_total", "New connections that share their external port.", total,
		func(c api.ConnectionStats) uint64 { return c.Shared }),
	connections("_replaced_total", "Closed connections whose external port another one needed.", total,
		func(c api.ConnectionStats) uint64 { return c.Replaced }),
}

var (
	dropsDesc = prometheus.NewDesc("vswitch_drops_total", "Packets lost, by the switch or by the kernel on the way to or from it.", []string{"port", "reason"}, nil)
	upDesc    = prometheus.NewDesc("vswitch_uplink_up", "1 while frames can leave by the uplink, else 0.", []string{"uplink", "router"}, nil)
	buildDesc = prometheus.NewDesc("vswitch_build_info", "Always 1; the labels tell versions.", []string{"version", "go", "kernel"}, nil)
	lostDesc  = prometheus.NewDesc("vswitch_log_lost_total", "Lines of the log that its reader was too slow for.", nil, nil)
	startDesc = prometheus.NewDesc("vswitch_start_time_seconds", "When the daemon started, in seconds since 1970.", nil, nil)
)

// Describe sends the descriptors of all metrics of the switch.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, c := range portCounters {
		out <- c.desc
	}
	for _, c := range networkCounters {
		out <- c.desc
	}
	for _, c := range workerCounters {
		out <- c.desc
	}
	for _, c := range routerCounters {
		out <- c.desc
	}
	for _, c := range fragmentGauges {
		out <- c.desc
	}
	for _, c := range connectionCounters {
		out <- c.desc
	}
	out <- dropsDesc
	out <- upDesc
	out <- buildDesc
	out <- startDesc
	out <- lostDesc
}

// Collect reads the counters from the backend. One that fails makes the scrape fail, which Prometheus shows.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	stats, err := m.backend.Stats(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(portCounters[0].desc, err)
		return
	}
	for _, p := range stats.Ports {
		for _, c := range portCounters {
			send(out, c.desc, c.kind, c.read(p), p.Port, p.Network)
		}
	}
	for _, n := range stats.Networks {
		for _, c := range networkCounters {
			send(out, c.desc, c.kind, c.read(n), n.Network)
		}
	}
	for _, w := range stats.Workers {
		for _, c := range workerCounters {
			send(out, c.desc, c.kind, c.read(w), strconv.Itoa(w.Worker))
		}
	}
	for _, r := range stats.Routers {
		for _, c := range routerCounters {
			send(out, c.desc, c.kind, c.read(r), r.Router)
		}
	}
	for _, c := range fragmentGauges {
		send(out, c.desc, c.kind, c.read(stats.Fragments))
	}
	for _, c := range connectionCounters {
		send(out, c.desc, c.kind, c.read(stats.Connections))
	}
	m.collectDrops(ctx, out)
	m.collectUplinks(ctx, out)
	if d, err := m.backend.Daemon(ctx); err != nil {
		out <- prometheus.NewInvalidMetric(buildDesc, err)
	} else {
		send(out, buildDesc, gauge, 1, d.Version, d.Go, d.Kernel)
		send(out, startDesc, gauge, float64(d.Started.UnixMilli())/1000)
		send(out, lostDesc, total, float64(d.LogLost))
	}
}

func (m *metrics) collectUplinks(ctx context.Context, out chan<- prometheus.Metric) {
	uplinks, err := m.backend.Uplinks(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(upDesc, err)
		return
	}
	for i := range uplinks {
		up := 0.0
		if uplinks[i].Status.State == api.UplinkUp {
			up = 1
		}
		send(out, upDesc, gauge, up, uplinks[i].Name, uplinks[i].Router)
	}
}

// collectDrops sends one sum for each port and reason: Prometheus refuses a metric that comes twice.
func (m *metrics) collectDrops(ctx context.Context, out chan<- prometheus.Metric) {
	drops, err := m.backend.Drops(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(dropsDesc, err)
		return
	}
	sums := map[[2]string]uint64{}
	for _, d := range drops {
		sums[[2]string{d.Port, d.Reason}] += d.Packets
	}
	for k, n := range sums {
		send(out, dropsDesc, total, float64(n), k[0], k[1])
	}
}

func send(out chan<- prometheus.Metric, d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, kind, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	out <- m
}
