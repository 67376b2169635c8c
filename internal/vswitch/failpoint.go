package vswitch

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// failpointEnv names the places at which a test wants the daemon to fail: NAME:KIND, several of them separated by commas.
// The kinds:
//
//	error      the step fails
//	kill       the daemon is killed there and then
//	wait=PATH  the step waits until somebody has opened the FIFO at PATH for writing, and closed it again
//
// Places are on the way of verbs and of the start, never on a frame's.
const failpointEnv = "VSWITCH_FAILPOINT"

// failpoints are the places asked for, by name; nil when there are none.
type failpoints map[string]string

func parseFailpoints(s string) (failpoints, error) {
	if s == "" {
		return nil, nil
	}
	f := make(failpoints)
	for point := range strings.SplitSeq(s, ",") {
		name, kind, ok := strings.Cut(point, ":")
		if !ok || kind != "error" && kind != "kill" && !strings.HasPrefix(kind, "wait=") {
			return nil, fmt.Errorf("%s=%s: use NAME:error, NAME:kill or NAME:wait=PATH", failpointEnv, s)
		}
		f[name] = kind
	}
	return f, nil
}

// at is called where the place called name is.
func (f failpoints) at(name string) error {
	if f == nil {
		return nil
	}
	switch kind := f[name]; {
	case kind == "error":
		return fmt.Errorf("failpoint %s", name)
	case kind == "kill":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case strings.HasPrefix(kind, "wait="):
		_, err := os.ReadFile(strings.TrimPrefix(kind, "wait="))
		return err
	}
	return nil
}
