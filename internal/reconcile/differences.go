package reconcile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"vswitch/internal/api"
)

// notIntent are keys that are not part of a configuration, or compared on their own.
var notIntent = map[string]bool{"id": true, "name": true, "ports": true, "status": true, "static_fdb": true}

// differences compares two objects of one type by the keys of their JSON. detail says it to people: "mtu 1500 -> 1400, age 300 -> 60".
func differences[T any](have, want *T) (keys []string, detail string) {
	h, w := reflect.ValueOf(have).Elem(), reflect.ValueOf(want).Elem()
	var all []string
	for i := range h.NumField() {
		key, _, _ := strings.Cut(h.Type().Field(i).Tag.Get("json"), ",")
		if a, b := text(h.Field(i)), text(w.Field(i)); a != b && !notIntent[key] {
			keys = append(keys, key)
			all = append(all, fmt.Sprintf("%s %s -> %s", key, a, b))
		}
	}
	return keys, strings.Join(all, ", ")
}

// text writes a value for people, and so that equal ones are written alike: JSON without the quotes, or a dash for nothing.
func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case *api.NetnsRef:
		if x == nil {
			return "-"
		}
		return x.Spec
	case []api.Subnet:
		return subnets(x)
	case []netip.Prefix:
		return addresses(x)
	case []api.Route:
		var all []string
		for _, r := range x {
			all = append(all, fmt.Sprintf("%v via %v", r.Prefix, r.Via))
		}
		return join(all)
	case []api.Publish:
		var all []string
		for _, p := range x {
			all = append(all, p.String())
		}
		return join(all)
	case []string:
		return join(slices.Clone(x))
	}
	if k := v.Kind(); (k == reflect.Slice || k == reflect.Map) && v.Len() == 0 || k == reflect.Pointer && v.IsNil() || k == reflect.String && v.Len() == 0 {
		return "-"
	}
	b, err := json.Marshal(v.Interface())
	if err != nil {
		return err.Error()
	}
	return strings.NewReplacer(`"`, "", ",", " ").Replace(string(b))
}

func addresses(list []netip.Prefix) string {
	var all []string
	for _, p := range list {
		if p.IsValid() {
			all = append(all, p.String())
		} else {
			all = append(all, "automatic")
		}
	}
	return join(all)
}

// join makes one text of a list whose order is of no meaning.
func join(list []string) string {
	slices.Sort(list)
	return cmp.Or(strings.Join(list, " "), "-")
}

func subnets(list []api.Subnet) string {
	var all []string
	for _, s := range list {
		t := "automatic"
		if s.Prefix.IsValid() {
			t = s.Prefix.String()
		}
		if s.Gateway.IsValid() {
			t += " gateway " + s.Gateway.String()
		}
		if s.Range.IsValid() {
			t += " range " + s.Range.String()
		}
		all = append(all, t)
	}
	if len(all) == 0 {
		return "no subnet"
	}
	return join(all)
}

// changedBy are keys of networks and ports that changes call otherwise.
var changedBy = map[string]string{"no_icc": "icc", "subnets": "add_subnets", "ips": "add_ips", "routes": "add_routes", "aliases": "add_aliases",
	"publish": "add_publish"}

// forLife are keys that changes have, but only to be refused.
var forLife = map[string]bool{"driver": true, "network": true, "type": true, "netns": true}

// hasForLife tells whether an object has for life what one of the keys names: then the change, a type of package api, has no such
// key.
func hasForLife(change any, keys []string) bool {
	known := make(map[string]bool)
	for _, f := range reflect.VisibleFields(reflect.TypeOf(change)) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known[key] = !forLife[key]
	}
	return slices.ContainsFunc(keys, func(k string) bool { return !known[cmp.Or(changedBy[k], k)] })
}
