package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

var formats = []string{"text", "json", "yaml"}

// sink writes until something fails, and remembers what: run looks at it once.
type sink struct {
	w   io.Writer
	err error
}

// Write writes b, or returns the first error again.
func (s *sink) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(b)
	s.err = err
	return n, err
}

// outputError says that the output could not be written.
type outputError struct{ err error }

func (e *outputError) Error() string { return "write the output: " + e.err.Error() }

// print prints v in the format that the user chose: as text by calling text, else v itself.
func (a *app) print(v any, text func()) error {
	if a.format == "text" {
		text()
		return nil
	}
	return a.data(v, "  ")
}

// data prints v as JSON or YAML. An empty indent asks for JSON in one line.
func (a *app) data(v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return &outputError{err}
	}
	if a.format == "json" {
		io.WriteString(a.out, harmlessJSON(b.String()))
		return nil
	}
	y, err := toYAML(b.Bytes())
	if err != nil {
		return &outputError{err}
	}
	for line := range strings.Lines(string(y)) {
		a.line("%s", strings.TrimSuffix(line, "\n"))
	}
	return nil
}

var (
	yamlWord     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_/-]*$`)
	yamlReserved = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null)$`)
)

// toYAML writes JSON as YAML. Strings that are not plain words are quoted: readers of YAML 1.1 and 1.2 disagree on which others are
// numbers (6.18, 1e3, the MAC 12:34:56:10:20:30).
func toYAML(body []byte) ([]byte, error) {
	var v any
	if err := yaml.UnmarshalWithOptions(body, &v, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	return yaml.MarshalWithOptions(v, yaml.CustomMarshaler[string](func(s string) ([]byte, error) {
		if yamlWord.MatchString(s) && !yamlReserved.MatchString(s) {
			return []byte(s), nil
		}
		return []byte(strconv.Quote(s)), nil
	}))
}

// line prints one line of text, whatever is in its arguments.
func (a *app) line(format string, args ...any) {
	fmt.Fprintln(a.out, plain(fmt.Sprintf(format, args...)))
}

// table prints rows in columns as wide as they need. An empty cell is printed as "-", so that each row has all its columns.
func (a *app) table(head []string, rows [][]string) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	if !a.noHeaders {
		fmt.Fprintln(w, strings.Join(head, "\t"))
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = plain(dash(cell))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	w.Flush() // a.out remembers its error
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plain makes s harmless for a terminal: what is not printable (control and escape characters, line breaks, changes of the direction
// of writing) becomes its escape sequence in Go's syntax.
func plain(s string) string {
	return replaceUnprintable(s, func(r rune, raw string) string {
		if r == utf8.RuneError && len(raw) == 1 {
			return fmt.Sprintf(`\x%02x`, raw[0])
		}
		return strings.Trim(strconv.QuoteRuneToASCII(r), "'")
	})
}

// harmlessJSON does the same within JSON and keeps its meaning. Its only unprintable bytes outside strings are its line breaks.
func harmlessJSON(s string) string {
	return replaceUnprintable(s, func(r rune, _ string) string {
		if r == '\n' {
			return "\n"
		}
		if r > 0xffff {
			r -= 0x10000
			return fmt.Sprintf(`\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
		return fmt.Sprintf(`\u%04x`, r)
	})
}

func replaceUnprintable(s string, escape func(r rune, raw string) string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if strconv.IsPrint(r) && (r != utf8.RuneError || n != 1) {
			b.WriteString(s[:n])
		} else {
			b.WriteString(escape(r, s[:n]))
		}
		s = s[n:]
	}
	return b.String()
}
