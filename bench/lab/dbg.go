package lab

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Workers is a debugging aid.
func (p *Peer) Workers() (turns, wins, sleeps float64) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", p.daemonSocket)
	}}}
	r, err := c.Get("http://x/metrics")
	if err != nil {
		return
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	for _, l := range strings.Split(string(b), "\n") {
		i := strings.LastIndexByte(l, ' ')
		if i < 0 {
			continue
		}
		x, _ := strconv.ParseFloat(l[i+1:], 64)
		switch {
		case strings.HasPrefix(l, "vswitch_worker_turns_total{"):
			turns += x
		case strings.HasPrefix(l, "vswitch_worker_spin_wins_total{"):
			wins += x
		case strings.HasPrefix(l, "vswitch_worker_sleeps_total{"):
			sleeps += x
		}
	}
	return
}
