package netlab

import (
	l2switch "vswitch/switch"

	"vswitch/internal/packet"
)

// Join is a container's own bridge over some of its interfaces, for the frames that are there: what each of the ports got
// comes back by the others, or, when there is but one, by itself. It returns how many frames came back.
func (l *Lab) Join(ports ...*Port) (n int) {
	l.t.Helper()
	got := make([][]*packet.Frame, len(ports))
	for i, p := range ports {
		got[i] = p.Raw()
	}
	for i, frames := range got {
		for j, p := range ports {
			if i == j && len(ports) > 1 {
				continue
			}
			for _, f := range frames {
				if p.TrySend(f.Vnet(), f.Bytes()) == nil { // else its queue is full, as a storm fills it
					n++
				}
			}
		}
	}
	l.Settle()
	return n
}

// Tend lets the networks do what is due, as the daemon does, and returns what they have to tell.
func (l *Lab) Tend() (news []l2switch.LoopNews) {
	l.t.Helper()
	l.Settle()
	for _, n := range l.order {
		some, _ := n.Bridge.Tend(l.Now(), l.path.Send)
		news = append(news, some...)
	}
	l.path.Quiesce()
	return news
}

// Probe lets the port be probed for loops and returns the frame, which the container got.
func (p *Port) Probe() *packet.Frame {
	p.lab.t.Helper()
	p.Raw()
	p.net.Bridge.PortUp(p.id, p.lab.Now())
	p.lab.Tend()
	got := p.Raw()
	if len(got) != 1 {
		p.lab.t.Fatalf("netlab: port %s got %d frames, want a probe", p.Name, len(got))
	}
	return got[0]
}

// Block blocks the port, as if a probe of it had come back.
func (p *Port) Block() {
	p.lab.t.Helper()
	probe, _ := l2switch.ParseProbe(p.Probe().Bytes()[14:])
	p.net.Bridge.Loops().Heard(&probe, p.id, p.lab.Now())
	if news := p.lab.Tend(); len(news) != 1 || !news[0].Blocked {
		p.lab.t.Fatalf("netlab: port %s was not blocked: %v", p.Name, news)
	}
}
