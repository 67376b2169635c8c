package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"vswitch/internal/api"
)

// short reads what is written shorter than in JSON: addresses and prefixes, VLANs (10-20, all), routes (PREFIX via ADDRESS[,ADDRESS...]
// [metric N]). It tells whether it was such a thing.
func short(n ast.Node, v reflect.Value) (done bool, err error) {
	text, isText := scalarText(n)
	switch to := v.Addr().Interface().(type) {
	case *api.VLANRange:
		if isText {
			*to, err = parseVLANs(text)
		}
	case *api.Route:
		if isText {
			*to, err = parseRoute(text)
		}
	case *api.RouteConfig:
		if isText {
			*to, err = parseStaticRoute(text)
		}
	case encoding.TextUnmarshaler:
		if !isText {
			return true, refuse(n.GetToken(), "this is %s where an address or other text is wanted", kind(n))
		}
		err = to.UnmarshalText([]byte(text))
	default:
		return false, nil
	}
	if err != nil {
		return true, refuse(n.GetToken(), "%.200s", err)
	}
	return isText, nil
}

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func parseVLANs(s string) (r api.VLANRange, err error) {
	if s == "all" {
		return api.VLANRange{First: 1, Last: 4094}, nil
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, err1 := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	b, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if err1 != nil || err2 != nil {
		return r, fmt.Errorf("VLANs %.40q: use an id, a range such as 10-20, or all", s)
	}
	return api.VLANRange{First: uint16(a), Last: uint16(b)}, nil
}

func parseRoute(s string) (r api.Route, err error) {
	words := strings.Fields(s)
	if len(words) != 3 || words[1] != "via" {
		return r, fmt.Errorf("route %.70q: use PREFIX via ADDRESS", s)
	}
	if err := r.Prefix.UnmarshalText([]byte(words[0])); err != nil {
		return r, err
	}
	return r, r.Via.UnmarshalText([]byte(words[2]))
}

// parseStaticRoute reads what api.RouteConfig.String writes.
func parseStaticRoute(s string) (r api.RouteConfig, err error) {
	words := strings.Fields(s)
	if len(words) == 5 && words[3] == "metric" {
		n, bad := strconv.ParseUint(words[4], 10, 31)
		if bad != nil || n == 0 {
			return r, fmt.Errorf("metric %.40q of a route: use 1 to %d", words[4], math.MaxInt32)
		}
		words, r.Metric = words[:3], uint32(n)
	}
	if len(words) != 3 || words[1] != "via" {
		return r, fmt.Errorf("route %.140q: use PREFIX via ADDRESS[,ADDRESS...] [metric N]", s)
	}
	if r.NextHops, err = api.ParseNextHops(words[2]); err != nil {
		return r, err
	}
	r.Prefix, err = api.ParseRoutePrefix(words[0], r.NextHops[0])
	return r, err
}
