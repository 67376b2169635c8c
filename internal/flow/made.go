package flow

import "vswitch/internal/packet"

// Made is what a decision leaves to do beside its actions: answers, solicitations, frames that have waited. It is a list. One of
// Bytes and Frame is set.
type Made struct {
	Next *Made

	Bytes []byte    // a finished frame, checksums made: it is written to Port, or, when that is 0, to all members of Set
	Port  PortID    //
	Set   *FloodSet //

	Frame *packet.Frame     // a frame that came in, and waited: it is decided anew
	Drop  packet.DropReason // or, when this is set, counted as lost
}

// Make adds m to the verdict's list.
func (v *Verdict) Make(m *Made) {
	p := &v.Made
	for *p != nil {
		p = &(*p).Next
	}
	*p = m
}
