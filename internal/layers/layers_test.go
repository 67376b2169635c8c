package layers_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// layer gives each package its floor. A package imports only from lower ones, but for its own folder and what beside lists.
// Packages that exist for tests and for the benchmark stand outside the house.
var layer = map[string]int{
	"internal/packet": 1, "internal/prefix": 1,

	"internal/flow": 2, "internal/port": 2, "internal/link": 2, "internal/bpf": 2, "internal/fdstore": 2, "internal/api": 2, "ctl": 2,
	"internal/logsink": 2, "internal/machine": 2, "internal/uplink": 2, "internal/hostport": 2, "internal/relay": 2,

	"switch": 3, "router": 3, "nat": 3, "encap": 3, "dnsresolver": 3, "internal/acl": 3, "internal/ipam": 3, "internal/store": 3,
	"internal/localstack": 3, "internal/config": 3, "internal/flowspec": 3,

	"internal/pipeline": 4, "internal/datapath": 4, "internal/reconcile": 4,

	"internal/vswitch": 5, "ctl/server": 5,

	"cmd/vswitchd": 6, "cmd/vsctl": 6,
}

// beside lists imports within a floor that are allowed.
var beside = map[string][]string{
	"internal/link":     {"internal/api", "internal/bpf", "internal/port"}, // returns what a port needs, and errors for users
	"internal/port":     {"internal/flow"},
	"internal/uplink":   {"internal/api", "internal/bpf", "internal/link", "internal/port"},
	"internal/hostport": {"internal/api", "internal/link", "internal/port"},
	"internal/relay":    {"internal/bpf"},
	"ctl":               {"internal/api"},
}

// outside are packages that anything of the house must not import, and that may import anything.
var outside = []string{"bench", "internal/netlab", "internal/netnstest", "internal/leaktest", "internal/cputime", "internal/packettest", "internal/layers", "internal/link/linktest"}

type pkg struct {
	ImportPath string
	Name       string
	Doc        string // the first sentence of its comment
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Imports", "vswitch/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// floor returns the folder of the house that the package belongs to, and its floor.
func floor(path string) (string, int, bool) {
	name := strings.TrimPrefix(path, "vswitch/")
	for name != "" {
		if n, ok := layer[name]; ok {
			return name, n, true
		}
		i := strings.LastIndexByte(name, '/')
		name = name[:max(i, 0)]
	}
	return "", 0, false
}

func isOutside(path string) bool {
	for _, o := range outside {
		if path == "vswitch/"+o || strings.HasPrefix(path, "vswitch/"+o+"/") {
			return true
		}
	}
	return false
}

// TestPackagesSayWhatTheyAre: each has a comment that begins with its name.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	for _, p := range list(t) {
		name := p.Name
		if name == "main" {
			name = path.Base(p.ImportPath)
		}
		if words := strings.Fields(p.Doc); len(words) < 3 || words[1] != name {
			t.Errorf("the comment of %s is %q", p.ImportPath, p.Doc)
		}
	}
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range list(t) {
		if isOutside(p.ImportPath) {
			continue
		}
		name, n, ok := floor(p.ImportPath)
		if !ok {
			t.Errorf("%s has no floor: add it to layer or outside", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, "vswitch/") {
				continue
			}
			if isOutside(imp) {
				t.Errorf("%s imports %s, which exists for tests only", p.ImportPath, imp)
				continue
			}
			other, m, ok := floor(imp)
			if !ok || other == name || m < n {
				continue
			}
			if !contains(beside[name], other) {
				t.Errorf("%s (floor %d) imports %s (floor %d)", p.ImportPath, n, imp, m)
			}
		}
	}
}

// TestSmallClient keeps the client small: it talks HTTP and knows types, nothing else of the switch.
func TestSmallClient(t *testing.T) {
	allowed := map[string]bool{"vswitch/ctl": true, "vswitch/internal/api": true, "vswitch/internal/prefix": true, "vswitch/cmd/vsctl": true}
	out, err := exec.Command("go", "list", "-deps", "vswitch/cmd/vsctl").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, p := range strings.Fields(string(out)) {
		if strings.HasPrefix(p, "vswitch/") && !allowed[p] {
			t.Errorf("vsctl depends on %s", p)
		}
	}
}

func TestPacketImportsStandardLibraryOnly(t *testing.T) {
	for _, p := range list(t) {
		if p.ImportPath != "vswitch/internal/packet" {
			continue
		}
		for _, imp := range p.Imports {
			if strings.Contains(imp, ".") || strings.HasPrefix(imp, "vswitch/") {
				t.Errorf("packet imports %s", imp)
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
