package layers_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/packet"
)

const limitsPage = "../../docs/limits.md"

// named matches the names of constants that are limits.
var named = regexp.MustCompile(`^(max|min|default|Max|Min|Default)[A-Z]|(Time|Timeout|Interval|Grace|Wait|Rest|Limit|Burst|Window|Buffer)$`)

// notLimits are constants of such names that limit nothing, or nothing that anybody can reach.
var notLimits = map[string]string{
	"relay.maxControl":       "room for what the kernel tells of a datagram",
	"relay.maxDatagram":      "the longest that IP has",
	"relay.receiveBuffer":    "asked for; the host's limit counts",
	"bpf.MaxOnLink":          "beyond it a neighbor is reached by the gateway",
	"config.maxLine":         "where a written list is broken",
	"flow.MaxActions":        "of a decision; the pipeline never makes more",
	"flow.MaxRefs":           "likewise",
	"flow.minGroups":         "where a table starts to grow",
	"flow.touchInterval":     "how exactly an entry's last use is known",
	"switch.minBuckets":      "where a table starts to grow",
	"switch.maxShapes":       "how far equal lists are looked for",
	"ipam.minRoute4":         "which routes of the host are too wide to mean an address plan",
	"ipam.minRoute6":         "likewise",
	"datapath.minGap":        "tunes polling",
	"datapath.wakefulTime":   "likewise",
	"datapath.minTCPSize":    "what is merged, not what is carried",
	"hostport.restTime":      "how soon news of the kernel are heeded",
	"link.defaultMTU":        "Ethernet's, where none is given",
	"link.minMTU6":           "vswitch.minMTUIPv6 at the place where addresses are set",
	"fdstore.maxMessage":     "follows from maxFDs and maxName",
	"switch.suspectInterval": "how exactly a suspicion is taken down",
	"switch.probeInterval":   "tunes the search for loops",
	"switch.suspectWait":     "likewise",
	"switch.quietTime":       "likewise",
	"switch.drainTime":       "likewise",
	"switch.retryWait":       "likewise",
}

// limitRow is a line of one of the page's tables of limits.
type limitRow struct {
	line                                    int
	what, value, name, flag, beyond, source string
}

// readTables returns the rows of the tables with five columns, and those with three: the drop reasons.
func readTables(t *testing.T) (limits []limitRow, reasons map[string][]string) {
	t.Helper()
	page, err := os.ReadFile(limitsPage)
	if err != nil {
		t.Fatal(err)
	}
	reasons = make(map[string][]string)
	n := 0
	for line := range strings.Lines(string(page)) {
		n++
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch len(cells) {
		case 5:
			if cells[1] == "value" {
				continue
			}
			limits = append(limits, limitRow{n, cells[0], cells[1], strings.Trim(cells[2], "`"), cells[3], cells[4], line})
		case 3:
			if name, ok := strings.CutPrefix(cells[0], "`"); ok {
				reasons[strings.Trim(name, "`")] = cells[1:]
			}
		default:
			t.Errorf("docs/limits.md:%d: %d columns: %s", n, len(cells), line)
		}
	}
	return limits, reasons
}

// TestLimitsPage holds docs/limits.md against the code: every limit is there with its value, and what it names exists.
func TestLimitsPage(t *testing.T) {
	code := constants(t)
	rows, _ := readTables(t)
	listed := make(map[string]bool)
	for _, r := range rows {
		if r.name == "—" {
			continue
		}
		v, ok := code[r.name]
		if !ok {
			t.Errorf("docs/limits.md:%d: the code has no constant %s: delete or change the line\n%s", r.line, r.name, r.source)
			continue
		}
		listed[r.name] = true
		if got, err := number(r.value); err != nil {
			t.Errorf("docs/limits.md:%d: %v\n%s", r.line, err, r.source)
		} else if !constant.Compare(got, token.EQL, v.value) {
			t.Errorf("docs/limits.md:%d: %s is %s in the code, %q on the page", r.line, r.name, v, r.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(code)) {
		_, internal := notLimits[name]
		_, local, _ := strings.Cut(name, ".")
		if named.MatchString(local) && !listed[name] && !internal {
			t.Errorf("docs/limits.md lacks %[1]s. Add to the fitting table this line, with its capitals filled in:\n"+
				"| WHAT IS LIMITED | %[2]s | `%[1]s` | `--FLAG` or — | WHAT HAPPENS THERE, with the `drop_reason`, `error_code` or counter |\n"+
				"or, when it is no limit, to notLimits in internal/layers/limits_test.go:\n\t%[1]q: \"WHY NOT\",\nNothing else is needed.",
				name, code[name])
		}
	}
	for name := range notLimits {
		if _, ok := code[name]; !ok || listed[name] {
			t.Errorf("notLimits has %s, which is not in the code or is on the page: delete it there", name)
		}
	}
}

// TestDropReasonsPage holds the page's table of drop reasons against package packet.
func TestDropReasonsPage(t *testing.T) {
	_, rows := readTables(t)
	for r := packet.DropNone + 1; r < packet.DropReasons; r++ {
		row, ok := rows[r.String()]
		delete(rows, r.String())
		if line := "| `%s` | %s | %s |"; !ok {
			t.Errorf("docs/limits.md lacks a drop reason. Add this line to its table, in the order of internal/packet/drop.go; nothing else is needed:\n"+
				line, r, "INGRESS or EGRESS", r.Sentence())
		} else if row[1] != r.Sentence() {
			t.Errorf("docs/limits.md says something else than the code of a drop reason. Its line should be\n"+line, r, row[0], r.Sentence())
		}
	}
	for name := range rows {
		t.Errorf("docs/limits.md has a drop reason %s that the code has not: delete its line", name)
	}
}

// TestLimitsPageNames: flags, reasons, codes and counters that the page names exist.
func TestLimitsPageNames(t *testing.T) {
	known := make(map[string]bool)
	for r := range packet.DropReasons {
		known[r.String()] = true
	}
	for _, c := range api.Codes() {
		known[c] = true
	}
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var flags strings.Builder
	for _, glob := range []string{"../../cmd/vsctl/*.go", "../../cmd/vswitchd/*.go"} {
		files, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			flags.Write(b)
		}
	}
	rows, _ := readTables(t)
	for _, r := range rows {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(r.flag+" "+r.beyond, -1) {
			word := m[1]
			if flag, ok := strings.CutPrefix(word, "--"); ok {
				if !strings.Contains(flags.String(), fmt.Sprintf("%q", flag)) {
					t.Errorf("docs/limits.md:%d: neither vsctl nor vswitchd has a flag %s", r.line, word)
				}
			} else if !known[word] && !strings.Contains(string(page), word) {
				t.Errorf("docs/limits.md:%d: `%s` is no drop reason, no code, and not in docs/api.md", r.line, word)
			}
		}
	}
}

// units of the page's numbers; those of time stand for nanoseconds, as in time.Duration.
var units = map[string]int64{
	"": 1, "KiB": 1 << 10, "MiB": 1 << 20,
	"us": int64(time.Microsecond), "ms": int64(time.Millisecond), "s": int64(time.Second),
}

// number reads a value like "64", "16 KiB", "5 s" or "14 bytes".
func number(s string) (constant.Value, error) {
	var n, unit string
	_, _ = fmt.Sscan(s, &n, &unit) // the unit may be missing
	v := constant.MakeFromLiteral(n, token.INT, 0)
	if v.Kind() != constant.Int {
		return nil, fmt.Errorf("%q is not a number with a unit", s)
	}
	factor, ok := units[unit]
	if !ok {
		factor = 1
	}
	return constant.BinaryOp(v, token.MUL, constant.MakeInt64(factor)), nil
}

// limit is the value of a constant.
type limit struct {
	value    constant.Value
	duration bool
}

// String writes it as the page does.
func (l limit) String() string {
	n, _ := constant.Int64Val(l.value)
	fitting := []string{"MiB", "KiB"}
	if l.duration {
		fitting = []string{"s", "ms", "us"}
	}
	for _, u := range fitting {
		if n >= units[u] && n%units[u] == 0 {
			return fmt.Sprint(n/units[u], " ", u)
		}
	}
	return fmt.Sprint(n)
}

// constants evaluates the numeric package-level constants of the daemon's packages, by "folder.name".
func constants(t *testing.T) map[string]limit {
	t.Helper()
	l := loader{t: t, dirs: make(map[string]string), done: map[string]*types.Package{"time": timePackage()}}
	all := make(map[string]limit)
	for _, p := range list(t) {
		l.dirs[p.ImportPath] = filepath.Join("../..", strings.TrimPrefix(p.ImportPath, "vswitch/"))
	}
	for importPath := range l.dirs {
		if isOutside(importPath) || importPath == "vswitch/cmd/vsctl" || strings.HasSuffix(importPath, "test") {
			continue
		}
		p, err := l.Import(importPath)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range p.Scope().Names() {
			if c, ok := p.Scope().Lookup(name).(*types.Const); ok {
				if v := constant.ToInt(c.Val()); v.Kind() == constant.Int {
					all[path.Base(importPath)+"."+name] = limit{v, strings.HasSuffix(c.Type().String(), "time.Duration")}
				}
			}
		}
	}
	return all
}

// loader checks packages of this module for the sake of their constants. Other packages are empty to it, and what needs them
// is an error that does not matter.
type loader struct {
	t    *testing.T
	dirs map[string]string
	done map[string]*types.Package
}

// Import implements types.Importer.
func (l *loader) Import(importPath string) (*types.Package, error) {
	if p := l.done[importPath]; p != nil {
		return p, nil
	}
	dir, ours := l.dirs[importPath]
	if !ours {
		p := types.NewPackage(importPath, path.Base(importPath))
		p.MarkComplete()
		l.done[importPath] = p
		return p, nil
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: l, IgnoreFuncBodies: true, Error: func(error) {}}
	p, _ := conf.Check(importPath, fset, files, nil)
	l.done[importPath] = p
	return p, nil
}

// timePackage is of package time what constants need.
func timePackage() *types.Package {
	p := types.NewPackage("time", "time")
	duration := types.NewNamed(types.NewTypeName(0, p, "Duration", nil), types.Typ[types.Int64], nil)
	p.Scope().Insert(duration.Obj())
	for name, d := range map[string]time.Duration{
		"Microsecond": time.Microsecond, "Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
	} {
		p.Scope().Insert(types.NewConst(0, p, name, duration, constant.MakeInt64(int64(d))))
	}
	p.MarkComplete()
	return p
}
