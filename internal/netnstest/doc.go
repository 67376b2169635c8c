// Package netnstest runs vswitchd, containers and traffic in real network namespaces, for tests as root.
//
//	func TestMain(m *testing.M) { netnstest.Main(m) }
//
//	func TestPing(t *testing.T) {
//		lab := netnstest.New(t)
//		d := lab.Daemon()
//		a, b := lab.Container("a"), lab.Container("b")
//		d.Must("add-network", "net1", "--subnet", "10.9.0.0/24")
//		d.Must("add-port", "net1", "a", "--netns", a.Name)
//		d.Must("add-port", "net1", "b", "--netns", b.Name)
//		a.Run("ping", "-c1", "-W2", "10.9.0.3")
//	}
//
// Each daemon has a namespace of its own as its host, so tests neither see nor touch the machine's interfaces and routes.
// After the test the lab stops and tears down its daemons and fails the test when anything is left: a process, an
// interface, a file descriptor in the keeper, a namespace, an error in a daemon's log.
package netnstest
