package vswitch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vswitch/internal/netnstest"
)

// tooLong is a name of 65 bytes.
var tooLong = strings.Repeat("x", 65)

// refusals are command lines and what they get: an exit code, and words of the message. $NS is a container that has an eth0,
// $FILE a file.
var refusals = []struct {
	name  string
	code  int
	words string
	args  []string
}{
	{"slash", 1, "is not allowed", []string{"add-network", "a/b"}},
	{"dots", 1, "is not allowed", []string{"add-network", ".."}},
	{"newline", 1, "is not allowed", []string{"add-network", "a\nb"}},
	{"escape", 1, "is not allowed", []string{"add-network", "a\x1b[31m"}},
	{"empty", 1, "is not allowed", []string{"add-network", ""}},
	{"65 bytes", 1, "1 to 64", []string{"add-network", tooLong}},
	{"not UTF-8", 1, "is not allowed", []string{"add-network", "\xff\xfe"}},
	{"port's name with a slash", 1, "is not allowed", []string{"add-port", "net1", "../x", "$NS", "--ifname=x"}},
	{"port's name of 65 bytes", 1, "1 to 64", []string{"add-port", "net1", tooLong, "$NS", "--ifname=x"}},
	{"port's name with a newline", 1, "is not allowed", []string{"add-port", "net1", "x\n", "$NS", "--ifname=x"}},
	{"interface name of 16 bytes", 1, "15 bytes", []string{"add-port", "net1", "x", "$NS", "--ifname=abcdefghijklmnop"}},
	{"interface name with a slash", 1, "is not allowed", []string{"add-port", "net1", "x", "$NS", "--ifname=a/b"}},
	{"interface name with an escape", 1, "is not allowed", []string{"add-port", "net1", "x", "$NS", "--ifname=a\x1bb"}},
	{"interface name of dots", 1, "is not allowed", []string{"add-port", "net1", "x", "$NS", "--ifname=.."}},
	{"interface lo", 1, "already exists", []string{"add-port", "net1", "x", "$NS", "--ifname=lo"}},
	{"interface exists", 1, "choose another with --ifname", []string{"add-port", "net1", "x", "$NS"}},
	{"interface exists, veth", 1, "choose another with --ifname", []string{"add-port", "net1", "x", "$NS", "--type=veth"}},
	{"second default route", 1, "--default-route=no", []string{"add-port", "net1", "x", "$NS", "--ifname=x"}},
	{"second default route, veth", 1, "--default-route=no", []string{"add-port", "net1", "x", "$NS", "--ifname=x", "--type=veth"}},
	{"no such namespace", 1, "ip netns add", []string{"add-port", "net1", "x", "--netns=nowhere"}},
	{"no such path", 1, "no such file", []string{"add-port", "net1", "x", "--netns=/run/netns/nowhere"}},
	{"a file", 1, "not a network namespace", []string{"add-port", "net1", "x", "--netns=$FILE"}},
	{"a relative path", 1, "absolute", []string{"add-port", "net1", "x", "--netns=../net"}},
	{"another kind of namespace", 1, "not a network namespace", []string{"add-port", "net1", "x", "--netns=/proc/self/ns/mnt"}},
	{"no such process", 1, "no such process", []string{"add-port", "net1", "x", "--pid=4194305"}},
	{"no such port's namespace", 1, "no port", []string{"add-port", "net1", "x", "--netns=container:nobody"}},
	{"no such network", 1, "no network", []string{"add-port", "net9", "x", "$NS"}},
	{"network exists", 1, "already exists", []string{"add-network", "net1"}},
	{"port exists", 1, "already exists", []string{"add-port", "net1", "web", "$NS"}},
	{"overlap", 1, "net1", []string{"add-network", "n", "--subnet=10.9.0.128/25"}},
	{"overlap in one", 1, "overlap", []string{"add-network", "n", "--subnet=10.8.0.0/24", "--subnet=10.8.0.0/25"}},
	{"host bits", 1, "did you mean 10.8.0.0/24", []string{"add-network", "n", "--subnet=10.8.0.1/24"}},
	{"loopback", 1, "loopback", []string{"add-network", "n", "--subnet=127.0.0.0/24"}},
	{"multicast", 1, "multicast", []string{"add-network", "n", "--subnet=ff02::/64"}},
	{"gateway elsewhere", 1, "in none of", []string{"add-network", "n", "--subnet=10.8.0.0/24", "--gateway=10.7.0.1"}},
	{"range elsewhere", 1, "within none of", []string{"add-network", "n", "--subnet=10.8.0.0/24", "--ip-range=10.7.0.0/28"}},
	{"tiny MTU", 1, "68", []string{"add-network", "n", "--mtu=67"}},
	{"tiny MTU for IPv6", 1, "1280", []string{"add-network", "n", "--subnet=fd00:8::/64", "--mtu=1279"}},
	{"MTU over the network's", 1, "larger", []string{"add-port", "net1", "x", "$NS", "--ifname=x", "--mtu=1501"}},
	{"group MAC", 1, "group", []string{"add-port", "net1", "x", "$NS", "--ifname=x", "--mac=01:00:5e:00:00:01"}},
	{"MAC taken", 1, "web", []string{"add-port", "net1", "x", "$NS", "--ifname=x", "--mac=02:42:0a:09:00:02"}},
	{"route of two families", 1, "family", []string{"add-port", "net1", "x", "$NS", "--ifname=x", "--route=10.0.0.0/8=fd00::1"}},
	{"unknown driver", 1, "bridge", []string{"add-network", "n", "--driver=overlay"}},
	{"network with ports", 1, "--force", []string{"del-network", "net1"}},
	{"no such port", 1, "no port", []string{"del-port", "nobody"}},
	{"no such network to delete", 1, "no network", []string{"del-network", "nothing"}},
	{"change of no port", 1, "no port", []string{"set-port", "nobody", "--mtu=1400"}},
	{"change of no network", 1, "no network", []string{"set-network", "nothing", "--mtu=1400"}},
	{"another type", 1, "for life", []string{"set-port", "web", "--type=veth"}},
	{"another namespace", 1, "ip link set eth0 netns", []string{"set-port", "web", "--netns=x"}},
	{"MTU set over the network's", 1, "set-network net1 --mtu 1501", []string{"set-port", "web", "--mtu=1501"}},
	{"MTU set too small", 1, "68", []string{"set-port", "web", "--mtu=67"}},
	{"MAC set to a group's", 1, "group", []string{"set-port", "web", "--mac=01:00:5e:00:00:01"}},
	{"address set elsewhere", 1, "in none of", []string{"set-port", "web", "--ip=10.8.0.1"}},
	{"address set to the gateway's", 1, "taken by the gateway", []string{"set-port", "web", "--ip=10.9.0.1"}},
	{"address to remove", 1, "no address", []string{"set-port", "web", "--ip=10.9.0.99-"}},
	{"route to remove", 1, "no route", []string{"set-port", "web", "--route=10.8.0.0/16-"}},
	{"alias to remove", 1, "no alias", []string{"set-port", "web", "--alias=www-"}},
	{"alias with a slash set", 1, "is not allowed", []string{"set-port", "web", "--alias=a/b"}},
	{"route of two families set", 1, "family", []string{"set-port", "web", "--route=10.8.0.0/16=fd00::1"}},
	{"interface renamed to a taken name", 1, "already exists", []string{"set-port", "web", "--ifname=lo", "--ip=10.9.0.99"}},
	{"interface renamed with a slash", 1, "is not allowed", []string{"set-port", "web", "--ifname=a/b"}},
	{"native VLAN of an access port", 1, "trunk", []string{"set-port", "web", "--native=3"}},
	{"storm meter set too low", 1, "storm meter", []string{"set-port", "web", "--storm=broadcast=-1"}},
	{"connected already", 1, "disconnect web", []string{"connect", "web", "six"}},
	{"connected to nothing", 1, "no network", []string{"connect", "web", "nothing"}},
	{"disconnected from another network", 1, "not on", []string{"disconnect", "web", "six"}},
	{"disconnected from another network, if it exists", 1, "not on", []string{"disconnect", "web", "six", "--if-exists"}},
	{"static entry of a group", 1, "group", []string{"add-fdb", "net1", "01:00:5e:00:00:01", "web"}},
	{"static entry on another network's port", 1, "net1", []string{"add-fdb", "six", stranger, "web"}},
	{"trace of nobody", 1, "no port", []string{"trace", "in_port=nobody,tcp"}},
	{"trace to nobody", 1, "no port of the network has it: add eth_dst=", []string{"trace", "in_port=web,tcp,ip_dst=10.9.0.77"}},
	{"trace of nonsense", 1, "no field", []string{"trace", "in_port=web,tcp_dts=80"}},

	{"malformed subnet", 2, "subnet", []string{"add-network", "n", "--subnet=10.8.0.0/33"}},
	{"malformed address", 2, "ip", []string{"add-port", "net1", "x", "$NS", "--ip=10.9.0"}},
	{"VLAN 4095", 2, "4094", []string{"add-port", "net1", "x", "$NS", "--vlan=4095"}},
	{"VLAN and trunk", 2, "exclude", []string{"add-port", "net1", "x", "$NS", "--vlan=1", "--trunk=2"}},
	{"trunk backwards", 2, "ends before", []string{"add-port", "net1", "x", "$NS", "--trunk=9-2"}},
	{"no namespace", 2, "--netns", []string{"add-port", "net1", "x"}},
	{"two namespaces", 2, "exclude", []string{"add-port", "net1", "x", "$NS", "--pid=1"}},
	{"unknown verb", 2, "did you mean add-port", []string{"add-prot", "net1", "x"}},
	{"unknown flag", 2, "unknown flag", []string{"add-network", "n", "--subnets=10.0.0.0/8"}},
	{"too many arguments", 2, "one too many", []string{"del-port", "a", "b"}},
}

// TestRefusals has vsctl say what is wrong, with the exit code that scripts look at, and leave nothing behind.
func TestRefusals(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d, c := lab.Daemon(), lab.Container("c")
	d.Must("add-network", "net1", "--subnet", subnet4)
	d.Must("add-network", "six", "--subnet", subnet6)
	d.Join("net1", "web", c)
	d.Join("net1", "first", c, "--type", "veth", "--ifname", "x", "--default-route=no") // what veths need, the daemon then has
	d.Must("del-port", "first")
	host := filepath.Join(filepath.Dir(d.State), "file")
	if err := os.WriteFile(host, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before, fds := d.Must("show", "-o", "json"), d.FDs()
	ns := "--netns=" + c.Name
	expand := strings.NewReplacer("$NS", ns, "$FILE", host)
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			lab.In(t)
			var args []string
			for _, arg := range tt.args {
				args = append(args, expand.Replace(arg))
			}
			d.Refused(tt.code, tt.words, args...)
			r := d.Vsctl(args...)
			if strings.ContainsAny(strings.TrimSuffix(r.Err, "\n"), "\n\x1b") || !strings.HasPrefix(r.Err, "vsctl: ") {
				t.Errorf("the message is not one plain line: %q", r.Err)
			}
		})
	}
	if after := d.Must("show", "-o", "json"); after != before {
		t.Errorf("something was left behind:\n%s\nbefore:\n%s", after, before)
	}
	d.Eventually("no file descriptor is leaked", func() bool { return d.FDs() <= fds })
	if links := c.Links(); len(links) != 1 {
		t.Errorf("interfaces were left behind: %+v", links)
	}
	if r := d.Vsctl("add-port", "six", "x", ns, "--ifname=x"); r.Code != 0 {
		t.Errorf("what was refused before is taken now: %s", r.Err)
	}
	d.Stop()
	d.Refused(3, "is vswitchd running?", "show")
}

// TestIdempotence: what scripts say twice.
func TestIdempotence(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d, c := lab.Daemon(), lab.Container("c")
	for range 2 {
		d.Must("add-network", "net1", "--subnet", subnet4, "--may-exist")
		d.Must("add-port", "net1", "web", "--netns", c.Name, "--may-exist")
		d.Must("add-fdb", "net1", stranger, "web", "--may-exist")
	}
	for words, line := range map[string]string{
		"its subnet is":                     "add-network net1 --subnet 10.8.0.0/24",
		"its MTU is 1500 and not 1400":      "add-network net1 --mtu 1400",
		"its icc is true and not false":     "add-network net1 --icc=false",
		"its gateway is":                    "add-network net1 --gateway 10.9.0.9",
		"its set of labels is":              "add-network net1 --label a=b",
		"its lack of a gateway is":          "add-network net1 --no-gateway",
		"its namespace is " + c.Name:        "add-port net1 web --netns " + d.Host.Name,
		"its type is tap and not veth":      "add-port net1 web --type veth --netns " + c.Name,
		"its address is [10.9.0.2]":         "add-port net1 web --ip 10.9.0.3 --netns " + c.Name,
		"its VLAN is 0 and not 7":           "add-port net1 web --vlan 7 --netns " + c.Name,
		"its trunk is [] and not":           "add-port net1 web --trunk 7 --netns " + c.Name,
		"its network is net1 and not other": "add-port other web --netns " + c.Name,
		"its alias is [] and not [x]":       "add-port net1 web --alias x --netns " + c.Name,
		"its source guard is false":         "add-port net1 web --source-guard --netns " + c.Name,
		"its address is":                    "connect web net1 --ip 10.9.0.9",
	} {
		d.Refused(1, words, append(strings.Fields(line), "--may-exist")...)
		if !strings.HasPrefix(line, "connect") { // as one of several commands
			d.Refused(1, words, append(strings.Fields("del-port x --if-exists -- "+line), "--may-exist")...)
		}
	}
	d.Refused(1, "already", "add-fdb", "net1", stranger, "web")
	for same, line := range map[string]string{
		"network": "add-network net1 --subnet 0.0.0.0/24 --gateway 10.9.0.1 --mtu 1500 --icc --router main --age 300",
		"port":    "add-port net1 web --netns " + c.Path + " --type tap --ifname eth0 --ip 10.9.0.2 --mac 02-42-0A-09-00-02 --default-route auto",
	} {
		if r := d.Vsctl(append(strings.Fields(line), "--may-exist")...); r.Code != 0 {
			t.Errorf("the same %s: %s", same, r.Err)
		}
	}
	d.Must("del-network", "net1", "--force")
	for range 2 {
		d.Must("del-port", "web", "--if-exists")
		d.Must("del-network", "net1", "--if-exists")
	}
	if len(c.Links()) != 0 {
		t.Errorf("del-network --force left %+v", c.Links())
	}
}

// TestSecondDaemon is refused on the same state, and so is a teardown under a running daemon.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, _ := d.Pair("net1", "--subnet", subnet4)
	out, err := d.Teardown()
	if err == nil {
		t.Error("the state of a running daemon was torn down")
	} else if !strings.Contains(err.Error(), "another") {
		t.Errorf("teardown under a running daemon says: %s%v", out, err)
	}
	a.Run("ping", "-q", "-c1", "-W10", b4)
}
