// Package netlab runs whole networks in memory, without root: bridges, the pipeline and real workers, on ports whose other
// ends are the test's.
//
//	lab := netlab.New(t)
//	c1, c2 := lab.Port("n1", "c1"), lab.Port("n1", "c2", netlab.VLAN(10))
//	f := packettest.UDP(c1.From(1000), c2.To(53))
//	c1.Send(f)
//	c2.Expect(t, f)
//
// Nothing sleeps: Expect and its like first wait until the workers have handled all that was sent, turn by turn. The clock
// stands until Advance.
package netlab
