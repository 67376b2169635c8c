package pipeline

import (
	"vswitch/internal/flow"
	"vswitch/internal/packet"
)

// guard holds the frame against what the port owns (--source-guard).
func (w *walk) guard(stage string) bool {
	g := w.in.Guard
	if g == nil {
		return true
	}
	w.deep = true
	if r := g.Check(w.f); r != packet.DropNone {
		return w.drop(stage, r)
	}
	if w.trace != nil {
		w.trace.step(stage, "source guard: the port may send this")
	}
	return true
}

// guardAgain makes sure that no frame is let pass by a decision of the guard about another one.
func (w *walk) guardAgain() {
	if g := w.in.Guard; g != nil {
		w.v.Slow |= packet.FlagFragment
		w.v.Cacheable = w.v.Cacheable && g.Keyed(w.f)
	}
}

// meter lets a flood pass the port's storm meter for its kind, if there is one, before anything else is done with it.
func (w *walk) meter() {
	if m := w.in.Storm[w.stormKind()]; m != nil {
		w.v.Add(flow.Action{Op: flow.OpMeter, Meter: m})
		if w.trace != nil {
			w.trace.step("", "storm meter: at most %d %s packets/s from %s, %d at once", m.Rate, m.Kind, w.in.Name, m.Burst())
		}
	}
}

func (w *walk) stormKind() flow.StormKind {
	switch {
	case w.f.Key.DstMAC == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		return flow.StormBroadcast
	case w.f.Flags&packet.FlagGroup != 0:
		return flow.StormMulticast
	}
	return flow.StormUnknown
}
