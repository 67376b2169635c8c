package pump

import "testing"

func TestLearn(t *testing.T) {
	p := &Pump{fdb: map[[6]byte]int{}}
	frame := func(destination, source byte) []byte {
		b := make([]byte, 60)
		b[0], b[5] = destination&1, destination // an odd address is a group's
		b[6], b[11] = source&1, source
		return b
	}
	if _, known := p.learn(0, frame(4, 2)); known {
		t.Error("knows an address before its first frame")
	}
	if out, known := p.learn(1, frame(2, 4)); !known || out != 0 {
		t.Errorf("learned port %d, %v; want 0", out, known)
	}
	if _, known := p.learn(0, frame(3, 3)); known {
		t.Error("knows a group address")
	}
	if _, known := p.learn(0, frame(3, 2)); known {
		t.Error("learned a group address")
	}
	p.learn(1, frame(4, 2)) // the address moves
	if out, _ := p.learn(1, frame(2, 4)); out != 1 {
		t.Errorf("the moved address is at port %d, want 1", out)
	}
}
