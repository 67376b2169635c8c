package link

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// FindNetns looks for the namespace among those that are mounted, as by 'ip netns' and container engines, and those of
// processes. It returns false when it finds none: then nothing but an open fd may keep it alive, such as that of a TAP.
func FindNetns(id NamespaceID) (path string, ok bool) {
	return findNetns(func(_ string, at NamespaceID) bool { return at == id })
}

// findNetns looks for a namespace for which is is true; it is asked once for each.
func findNetns(is func(path string, id NamespaceID) bool) (path string, ok bool) {
	seen := make(map[NamespaceID]bool)
	for _, list := range []func() []string{netnsMounts, netnsOfProcesses} {
		for _, path := range list() {
			id, err := Identify(path)
			if err != nil || seen[id] {
				continue
			}
			seen[id] = true
			if is(path, id) {
				return path, true
			}
		}
	}
	return "", false
}

func netnsOfProcesses() []string {
	paths, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	return paths
}

// netnsMounts lists where network namespaces are mounted (proc_pid_mountinfo(5): the fourth field is what is mounted, the
// fifth where).
func netnsMounts() []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var paths []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[3], "net:[") {
			paths = append(paths, strings.ReplaceAll(fields[4], `\040`, " "))
		}
	}
	return paths
}

// Pins tells whether the TAP's fd keeps the namespace alive: it was opened there, as ReopenTAP does.
func Pins(fd int, id NamespaceID) bool {
	nsfd, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		return false
	}
	home, err := FromFD(nsfd, "")
	if err != nil {
		return false
	}
	defer home.Close()
	return home.id == id
}
