package netlab_test

import (
	"fmt"
	"strings"

	"vswitch/internal/netlab"
)

// rule gives a network of both labs other rules, about a port that may be another network's too.
func (w *twins) rule(network, port, other, any string) {
	one := func(words ...string) string { return words[w.r.IntN(len(words))] }
	src, dst := []string{"@" + any, "10.0.0.1", "10.0.0.0/8"}, []string{"@" + any, "10.0.0.1", "10.0.0.2", "10.0.0.0/8"}
	if w.r.IntN(4) == 0 {
		src, dst = []string{"@" + any, "fd00::/8", "fd01::/64"}, []string{"@" + any, "fd02::2"}
	}
	owners := []string{network}
	for _, p := range []string{port, other} {
		if w.has(p) && w.labs[0].Find(p).Net().Name == network {
			owners = append(owners, p)
		}
	}
	texts := make([]string, w.r.IntN(5)*w.r.IntN(2))
	for i := range texts {
		words := []string{one(owners...), one("in", "out"), one("allow", "deny", "reject", "deny", "reject")}
		if w.r.IntN(8) == 0 {
			texts[i] = strings.Join(append(words, "--ethertype", one("arp", "ipv4", "0x88cc")), " ")
			continue
		}
		if w.r.IntN(3) == 0 {
			words = append(words, "--src", one(src...))
		}
		if w.r.IntN(3) == 0 {
			words = append(words, "--dst", one(dst...))
		}
		switch w.r.IntN(5) {
		case 0:
			words = append(words, "--proto", one("udp", "tcp"), one("--sport", "--dport"), one("7", "8", "9", "61001"))
		case 1:
			words = append(words, "--proto", one("udp", "tcp", "gre"))
		case 2:
			if len(words) == 3 {
				words = append(words, "--proto", one("icmp", "icmp6"), "--icmp-type", one("echo-request", "echo-reply"))
			}
		}
		texts[i] = strings.Join(words, " ")
	}
	w.ruled = map[string][]string{network: texts}
	w.both(fmt.Sprintf("rules of %s: %q", network, texts), func(l *netlab.Lab) { l.Rules(network, texts...) })
	for i, l := range w.labs {
		if l != nil {
			w.before[i] = l.RuleHits(network)
		}
	}
}

// compareHits holds what rules of direction in have counted against each other: a cached decision counts all its packets. Of floods, those of
// direction out count decisions.
func (w *twins) compareHits() {
	if w.labs[1] == nil {
		return
	}
	for network, texts := range w.ruled {
		x, y := w.labs[0].RuleHits(network), w.labs[1].RuleHits(network)
		for i, text := range texts {
			id := fmt.Sprintf("r%d", i+1)
			if x[id]-w.before[0][id] != y[id]-w.before[1][id] && strings.Fields(text)[1] == "in" {
				w.fail("rule %s, %s, has %d packets with the cache, %d without", id, text, x[id], y[id])
			}
			w.counted += x[id]
		}
	}
}

// endpoint is one side of a datagram.
type endpoint struct {
	addr string
	port uint16
}

// endpoints draws two sides, of few, so that frames are often replies.
func (w *twins) endpoints() (src, dst endpoint) {
	src, dst = endpoint{"10.0.0.1", 7}, endpoint{"10.0.0.2", uint16(7 + w.r.IntN(2))}
	if w.r.IntN(2) == 0 {
		return dst, src
	}
	return src, dst
}
