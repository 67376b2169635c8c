// Package iperf drives iperf3 and reads its report.
package iperf

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// Transfer describes one run of the client.
type Transfer struct {
	To      netip.AddrPort
	Streams int
	Both    bool // both directions at once
	Seconds float64
}

// Args returns the client's arguments. iperf3 counts whole seconds only, so they are rounded up.
func (t Transfer) Args() []string {
	args := []string{
		"-J", "-c", t.To.Addr().String(), "-p", strconv.Itoa(int(t.To.Port())),
		"-t", strconv.Itoa(WholeSeconds(t.Seconds)), "-P", strconv.Itoa(max(1, t.Streams)), "--connect-timeout", "3000",
	}
	if t.Both {
		args = append(args, "--bidir")
	}
	return args
}

// WholeSeconds rounds up to what iperf3 can be asked for.
func WholeSeconds(seconds float64) int {
	whole := int(seconds)
	if float64(whole) < seconds {
		whole++
	}
	return max(1, whole)
}

// ServerArgs returns the arguments of a server for one test.
func ServerArgs(at netip.AddrPort) []string {
	return []string{"-s", "-1", "-B", at.Addr().String(), "-p", strconv.Itoa(int(at.Port()))}
}

// Report is what the client measured.
type Report struct {
	Gbits       float64 // received, both directions together
	GbitPerS    float64
	Retransmits float64
}

type sum struct {
	Bytes       float64 `json:"bytes"`
	BitsPerS    float64 `json:"bits_per_second"`
	Retransmits float64 `json:"retransmits"`
}

// Parse reads the JSON that the client prints.
func Parse(text []byte) (Report, error) {
	var report struct {
		Error string `json:"error"`
		End   struct {
			Sent            sum  `json:"sum_sent"`
			Received        *sum `json:"sum_received"`
			SentReverse     sum  `json:"sum_sent_bidir_reverse"`
			ReceivedReverse sum  `json:"sum_received_bidir_reverse"`
		} `json:"end"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return Report{}, fmt.Errorf("parse iperf3's report: %w", err)
	}
	if report.Error != "" {
		return Report{}, fmt.Errorf("iperf3: %s", report.Error)
	}
	end := report.End
	if end.Received == nil || end.Received.BitsPerS <= 0 {
		return Report{}, errors.New("iperf3's report says nothing about received data")
	}
	return Report{
		Gbits:       (end.Received.Bytes + end.ReceivedReverse.Bytes) * 8 / 1e9,
		GbitPerS:    (end.Received.BitsPerS + end.ReceivedReverse.BitsPerS) / 1e9,
		Retransmits: end.Sent.Retransmits + end.SentReverse.Retransmits,
	}, nil
}
