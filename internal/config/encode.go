package config

import (
	"encoding"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"vswitch/internal/api"
)

// Encode writes a configuration as a person would: what has its zero value is left out, names are sorted, keys are in the order of
// the API's types, short lists are in one line. Decode reads it back.
func Encode(c api.Config) []byte {
	e := encoder{}
	if len(c.Networks) == 0 {
		e.line(0, "networks: {}")
	}
	e.mapping(reflect.ValueOf(c), 0)
	return []byte(e.String())
}

// maxLine is how long a line with a list may be; a longer list has a line for each value.
const maxLine = 120

type encoder struct{ strings.Builder }

func (e *encoder) line(indent int, format string, args ...any) {
	e.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(e, format+"\n", args...)
}

// mapping writes a struct or map.
func (e *encoder) mapping(v reflect.Value, indent int) {
	if v.Kind() == reflect.Map {
		for _, k := range slices.SortedFunc(maps.Keys(keysAndValues(v)), strings.Compare) {
			e.pair(quote(k), v.MapIndex(reflect.ValueOf(k)), indent)
		}
		return
	}
	for _, f := range reflect.VisibleFields(v.Type()) {
		if x := v.FieldByIndex(f.Index); !f.Anonymous && !empty(x) && !given[keyOf(f)] {
			e.pair(keyOf(f), x, indent)
		}
	}
}

func empty(v reflect.Value) bool {
	return v.IsZero() || (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() == 0
}

func keysAndValues(v reflect.Value) map[string]reflect.Value {
	m := make(map[string]reflect.Value, v.Len())
	for _, k := range v.MapKeys() {
		m[k.String()] = v.MapIndex(k)
	}
	return m
}

// pair writes a key with its value, in one line where that reads well.
func (e *encoder) pair(key string, v reflect.Value, indent int) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if text, ok := word(v); ok {
		e.line(indent, "%s: %s", key, text)
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		e.list(key, v, indent)
	case reflect.Struct, reflect.Map:
		inner := encoder{}
		inner.mapping(v, indent+1)
		if inner.Len() == 0 {
			e.line(indent, "%s: {}", key)
			return
		}
		e.line(indent, "%s:", key)
		e.WriteString(inner.String())
	}
}

func (e *encoder) list(key string, v reflect.Value, indent int) {
	var items []string
	for i := range v.Len() {
		text, ok := word(v.Index(i))
		if !ok {
			text = flow(v.Index(i))
		}
		items = append(items, text)
	}
	one := fmt.Sprintf("%s: [%s]", key, strings.Join(items, ", "))
	if len(one)+2*indent <= maxLine && !strings.HasPrefix(items[0], "{") {
		e.line(indent, "%s", one)
		return
	}
	e.line(indent, "%s:", key)
	for _, item := range items {
		e.line(indent+1, "- %s", item)
	}
}

// flow writes a small struct in one line.
func flow(v reflect.Value) string {
	var pairs []string
	for _, f := range reflect.VisibleFields(v.Type()) {
		if text, ok := word(v.FieldByIndex(f.Index)); ok && !v.FieldByIndex(f.Index).IsZero() {
			pairs = append(pairs, keyOf(f)+": "+text)
		}
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// word writes what is no list and has no keys.
func word(v reflect.Value) (string, bool) {
	switch x := v.Interface().(type) {
	case api.VLANRange:
		switch {
		case x == api.VLANRange{First: 1, Last: 4094}:
			return "all", true
		case x.First == x.Last:
			return strconv.Itoa(int(x.First)), true
		}
		return fmt.Sprintf("%d-%d", x.First, x.Last), true
	case api.Route:
		return quote(fmt.Sprintf("%v via %v", x.Prefix, x.Via)), true
	case api.RouteConfig:
		return quote(x.String()), true
	case netip.Prefix:
		if !x.IsValid() { // of the default pools
			return `""`, true
		}
		return quote(x.String()), true
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		return quote(string(text)), err == nil
	}
	switch v.Kind() {
	case reflect.String:
		return quote(v.String()), true
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprint(v.Interface()), true
	}
	return "", false
}

var (
	// plain is text that every reader of YAML takes for text: it starts as a word or path, or is an IPv4 address or prefix.
	plain    = regexp.MustCompile(`^([A-Za-z/][A-Za-z0-9_./:-]*[A-Za-z0-9_./-]|[A-Za-z]|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(/[0-9]+)?( via [0-9.]+)?)$`)
	reserved = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null)$`)
)

// quote writes text so that it is read as that text. Go's escapes are YAML's too.
func quote(s string) string {
	if plain.MatchString(s) && !reserved.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}
