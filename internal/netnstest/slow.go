package netnstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// filters is how many traffic control filters make a container slow: they match nothing, but each frame is held against all. On
// the machine where they were counted a frame takes 0.3 ms.
const filters = 20000

// SlowDown makes an interface slow to receive, as a long list of firewall rules would.
func (c *Container) SlowDown(ifname string) {
	c.lab.t.Helper()
	const perList = 4000 // u32 has room for 4096 in one
	var b strings.Builder
	fmt.Fprintf(&b, "qdisc add dev %s clsact\n", ifname)
	for i := range filters {
		fmt.Fprintf(&b, "filter add dev %s ingress protocol all prio %d u32 match u32 %#x 0xffffffff at 12 flowid 1:1\n",
			ifname, 1+i/perList, 0x7f000000+i)
	}
	file := filepath.Join(c.lab.dir(), "filters")
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		c.lab.t.Fatal(err)
	}
	c.Run("tc", "-batch", file)
}

// SpeedUp undoes SlowDown.
func (c *Container) SpeedUp(ifname string) {
	c.lab.t.Helper()
	c.Run("tc", "qdisc", "del", "dev", ifname, "clsact")
}
