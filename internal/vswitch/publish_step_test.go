package vswitch_test

import (
	"slices"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// publishedBy lists what a port publishes.
func publishedBy(d *netnstest.Daemon, port string) (list []string) {
	for _, row := range netnstest.Get[[]api.PublishedPort](d, "list-published", port) {
		list = append(list, row.Publish.String())
	}
	return list
}

// TestKilledWhilePublishing: before the record is written nothing has changed; after that all is as asked. An error changes nothing.
func TestKilledWhilePublishing(t *testing.T) {
	t.Parallel()
	l := newStepLab(t, "tap")
	l.d.Allow("failpoint")
	l.addB()
	echoes(t, l.b, 80)
	l.d.Must("publish", "b", "8080:80")
	for _, c := range []struct {
		step    string
		line    []string
		code    int
		want    []string
		reached bool // 10.9.0.1:8081
	}{
		{"publish.checked:error", []string{"publish", "b", "8081:80"}, 1, []string{"8080:80/tcp"}, false},
		{"publish.checked:kill", []string{"publish", "b", "8081:80"}, 3, []string{"8080:80/tcp"}, false},
		{"publish.recorded:kill", []string{"publish", "b", "8081:80"}, 3, []string{"8080:80/tcp", "8081:80/tcp"}, true},
		{"publish.checked:kill", []string{"unpublish", "b", "8081:80"}, 3, []string{"8080:80/tcp", "8081:80/tcp"}, true},
		{"publish.recorded:kill", []string{"unpublish", "b", "8081:80"}, 3, []string{"8080:80/tcp"}, false},
		{"publish.done:kill", []string{"publish", "b", "8081:80"}, 3, []string{"8080:80/tcp", "8081:80/tcp"}, true},
		{"transaction.recorded:kill", []string{"unpublish", "b", "--", "publish", "b", "80"}, 3, []string{"8080:80/tcp", "8081:80/tcp"}, true},
		{"transaction.committed:kill", []string{"unpublish", "b", "--", "publish", "b", "80"}, 3, []string{"20000:80/tcp"}, false},
		{"set.recorded:kill", []string{"set-port", "b", "--publish", "8081:80"}, 3, []string{"20000:80/tcp"}, false},
		{"set.done:kill", []string{"set-port", "b", "--publish", "8081:80", "--publish", "20000:80-"}, 3, []string{"8081:80/tcp"}, true},
	} {
		l.restart(c.step)
		if r := l.d.Vsctl(c.line...); r.Code != c.code {
			t.Fatalf("%s: exit code %d: %s", c.step, r.Code, r.Err)
		}
		if c.code == 3 {
			l.killed(c.step)
			l.restart("")
		}
		if got := publishedBy(l.d, "b"); !slices.Equal(got, c.want) {
			t.Errorf("%v, %s: %v is published, want %v", c.line, c.step, got, c.want)
		}
		for addr, want := range map[string]bool{"10.9.0.1:8080": slices.Contains(c.want, "8080:80/tcp"), "10.9.0.1:8081": c.reached} {
			if got := answers(l.a, addr, want); got != want {
				t.Errorf("%v, %s: %s is reached: %v", c.line, c.step, addr, got)
			}
		}
	}
	for _, step := range addSteps { // a port that is not added leaves nothing published
		l.d.Must("del-port", "b")
		l.restart(step + ":error")
		if r := l.d.Vsctl("add-port", "net1", "b", "--netns", l.b.Name, "--ip", b4, "--publish", "8081:80"); r.Code != 1 {
			t.Fatalf("%s: exit code %d: %s", step, r.Code, r.Err)
		}
		l.d.Must("publish", "a", "8081:80")
		l.d.Must("unpublish", "a")
		l.restart("")
		l.d.Must("add-port", "net1", "b", "--netns", l.b.Name, "--ip", b4, "--publish", "8081:80")
	}
	if !answers(l.a, "10.9.0.1:8081", true) {
		t.Error("what add-port publishes is not reached")
	}
	l.wantDevices("in the end", true)
}

// answers tells whether a published port leads to somebody. Where nobody is wanted it waits less long.
func answers(c *netnstest.Container, addr string, wanted bool) bool {
	patience, want := time.Second, "timeout"
	if wanted {
		patience, want = netnstest.Patience, ""
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if dial(c, "tcp", addr, want) == "" {
			return true
		}
	}
	return false
}
