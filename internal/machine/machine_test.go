package machine

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"system.slice/memory.max":                "max\n",
		"system.slice/v.service/memory.max":      "104857600\n",
		"unified/a/memory.max":                   "max\n",
		"memory/memory.limit_in_bytes":           "9223372036854771712\n", // v1's way to say none
		"memory/pod/memory.limit_in_bytes":       "5000000\n",
		"memory/pod/inner/memory.limit_in_bytes": "9000000\n",
		"broken/memory.max":                      "\n",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, groups string
		want         int64
	}{
		{"v2", "0::/system.slice/v.service\n", 104857600},
		{"v2 without a limit", "0::/system.slice\n", math.MaxInt64},
		{"v1, the parent's", "4:memory:/pod/inner\n0::/a\n", 5000000},
		{"v1 without a limit", "9:name=systemd:/pod\n4:memory:/\n0::/\n", 9223372036854771712},
		{"seen from within a container", "0::/../../elsewhere\n", math.MaxInt64},
		{"unreadable", "0::/broken\n", math.MaxInt64},
		{"nonsense", "x\n", math.MaxInt64},
		{"nothing", "", math.MaxInt64},
	} {
		if got := memoryLimit(root, tt.groups); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestOpenFiles(t *testing.T) {
	if limit, err := OpenFiles(); err != nil || limit < 10 {
		t.Error(limit, err)
	}
}
