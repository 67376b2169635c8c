package pipeline

import "vswitch/internal/packet"

// clamp lowers the segment size that a TCP SYN or SYN ACK announces to what fits the smaller of the MTUs on both sides of the router,
// where they differ (RFC 9293 3.7.1): so TCP passes also where nobody hears that its segments are too large. It never raises one.
func (w *walk) clamp() {
	in := min(w.in.MTU, w.gw.If.MTU)
	if w.mtu == in {
		return
	}
	w.v.Slow |= packet.FlagSYN
	if w.f.Flags&packet.FlagSYN == 0 {
		return
	}
	was, fits := w.f.MSS(), w.f.FitMSS(min(w.mtu, in))
	if was <= fits {
		return
	}
	if w.trace != nil {
		w.trace.step("11 output", "MSS %d lowered to %d", was, fits)
		return
	}
	w.f.SetMSS(fits)
}
