package netnstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
)

// Container is a network namespace with a name, as 'ip netns add' makes it.
type Container struct {
	Name    string // in /run/netns
	Path    string
	lab     *Lab
	deleted bool
}

// Container makes a namespace; label is for people.
func (l *Lab) Container(label string) *Container {
	l.t.Helper()
	name := fmt.Sprintf("%s%d-%d-%s", prefix, os.Getpid(), serial.Add(1), label)
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		l.t.Fatalf("ip netns add %s: %v\n%s", name, err, out)
	}
	c := &Container{Name: name, Path: "/run/netns/" + name, lab: l}
	l.containers = append(l.containers, c)
	return c
}

// Containers makes several.
func (l *Lab) Containers(labels ...string) []*Container {
	l.t.Helper()
	var all []*Container
	for _, label := range labels {
		all = append(all, l.Container(label))
	}
	return all
}

// Do runs fn on a thread in the namespace that is thrown away afterwards. What fn opens there stays there; goroutines that it
// starts are elsewhere.
func (c *Container) Do(fn func() error) error {
	ns, err := link.OpenNetns(c.Path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(fn)
}

// Try runs a command in the namespace and returns what it wrote to stdout, and to stderr within the error.
func (c *Container) Try(name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := c.Do(cmd.Run); err != nil {
		return out.String(), fmt.Errorf("%s %s in %s: %w\n%s%s", name, strings.Join(args, " "), c.Name, err, &out, &errs)
	}
	return out.String(), nil
}

// Run is Try that must succeed.
func (c *Container) Run(name string, args ...string) string {
	c.lab.t.Helper()
	out, err := c.Try(name, args...)
	if err != nil {
		c.lab.t.Fatal(err)
	}
	return out
}

// IP runs the ip command; its arguments are the words of a line.
func (c *Container) IP(line string) string {
	c.lab.t.Helper()
	return c.Run("ip", strings.Fields(line)...)
}

// Rename renames an interface that is up, as linktest.Rename does.
func (c *Container) Rename(from, to string) {
	c.lab.t.Helper()
	linktest.Rename(c.lab.t, c.Name, from, to)
}

// Make makes an interface from the words of 'ip link add', as linktest.Make does.
func (c *Container) Make(words string) {
	c.lab.t.Helper()
	linktest.Make(c.lab.t, c.Name, words)
}

// Link is what 'ip -j -d addr' tells of an interface.
type Link struct {
	Index int      `json:"ifindex"`
	Name  string   `json:"ifname"`
	MAC   string   `json:"address"`
	MTU   int      `json:"mtu"`
	Flags []string `json:"flags"`
	State string   `json:"operstate"`
	Addrs []Addr   `json:"addr_info"`
}

// Addr is an address of a Link.
type Addr struct {
	Local  string `json:"local"`
	Length int    `json:"prefixlen"`
	Scope  string `json:"scope"`
}

// Up tells whether the interface is set up.
func (l *Link) Up() bool { return slices.Contains(l.Flags, "UP") }

// Carrier tells whether somebody is at the other end.
func (l *Link) Carrier() bool { return slices.Contains(l.Flags, "LOWER_UP") }

// Prefixes lists the addresses but for link-local ones.
func (l *Link) Prefixes() []string {
	var list []string
	for _, a := range l.Addrs {
		if a.Scope != "link" {
			list = append(list, fmt.Sprintf("%s/%d", a.Local, a.Length))
		}
	}
	return list
}

// Links lists the interfaces but for lo.
func (c *Container) Links() []Link {
	c.lab.t.Helper()
	var list []Link
	if err := json.Unmarshal([]byte(c.Run("ip", "-j", "-d", "addr")), &list); err != nil {
		c.lab.t.Fatalf("ip -j addr in %s: %v", c.Name, err)
	}
	return slices.DeleteFunc(list, func(l Link) bool { return l.Name == "lo" })
}

// Link returns the interface of that name, or nil.
func (c *Container) Link(name string) *Link {
	c.lab.t.Helper()
	for _, l := range c.Links() {
		if l.Name == name {
			return &l
		}
	}
	return nil
}

// Settled tells whether the kernel has drawn all consequences of an interface's carrier and addresses, which take it a moment: the
// operational state, a link-local address, and what Listens asks for.
func (c *Container) Settled(name string) bool {
	c.lab.t.Helper()
	l := c.Link(name)
	linkLocal := slices.ContainsFunc(l.Addrs, func(a Addr) bool { return strings.HasPrefix(a.Local, "fe80:") })
	return l.State == "UP" && linkLocal && c.Listens(name)
}

// Listens tells whether the kernel takes what is sent to any IPv6 address of an interface.
func (c *Container) Listens(name string) bool {
	c.lab.t.Helper()
	return !slices.ContainsFunc(c.Link(name).Addrs, func(a Addr) bool { return strings.Contains(a.Local, ":") && !c.ListensAt(a.Local) })
}

// ListensAt is Listens for one address: the kernel enters its route to itself later than the address, from a work queue.
func (c *Container) ListensAt(addr string) bool {
	c.lab.t.Helper()
	return strings.Contains(c.IP("-6 route show table local"), "local "+addr+" ")
}

// MAC returns the address of eth0.
func (c *Container) MAC() string {
	c.lab.t.Helper()
	l := c.Link("eth0")
	if l == nil {
		c.lab.t.Fatalf("%s has no eth0", c.Name)
	}
	return l.MAC
}

// Delete removes the namespace's name before the end of the test: the namespace dies unless a process or socket is in it.
func (c *Container) Delete() {
	c.lab.t.Helper()
	c.deleted = true
	if out, err := exec.Command("ip", "netns", "del", c.Name).CombinedOutput(); err != nil {
		c.lab.t.Errorf("ip netns del %s: %v\n%s", c.Name, err, out)
	}
}

// close reports interfaces that a daemon should have taken away, and deletes the namespace.
func (c *Container) close() {
	if c.deleted {
		return
	}
	for _, kind := range []string{"tun", "veth"} {
		if out, err := c.Try("ip", "-br", "link", "show", "type", kind); err != nil || out != "" {
			c.lab.t.Errorf("left in %s: %s%v", c.Name, out, err)
		}
	}
	c.Delete()
}
