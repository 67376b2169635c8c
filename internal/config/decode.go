package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"vswitch/internal/api"
)

// Decode reads a configuration. It refuses keys that it does not know, keys that are given twice, and values of a wrong type; a
// port's name is used once in the whole file. Errors are *api.Error with CodeInvalid that say where, or CodeTooLarge.
func Decode(text []byte) (api.Config, error) {
	var c api.Config
	body, err := parse(text)
	if err != nil {
		return c, err
	}
	if body == nil {
		return c, api.Errorf(api.CodeInvalid, "the configuration is empty: write 'networks: {}' to have no network at all")
	}
	d := decoder{anchors: make(map[string]ast.Node), ports: make(map[string]bool)}
	if err := d.value(body, reflect.ValueOf(&c).Elem()); err != nil {
		return api.Config{}, err
	}
	if c.Networks == nil {
		return c, refuse(body.GetToken(), "there is no key networks: write 'networks: {}' to have no network at all")
	}
	return c, nil
}

// decoder turns nodes into values of the types of package api, by the names of their JSON.
type decoder struct {
	nodes   int
	anchors map[string]ast.Node
	ports   map[string]bool // names of ports so far
}

// given are keys that requests have, and files say otherwise: names are the keys of mappings.
var given = map[string]bool{"name": true, "network": true, "may_exist": true}

// value reads a node into v. A null leaves v as it is.
func (d *decoder) value(n ast.Node, v reflect.Value) error {
	if d.nodes++; d.nodes > maxNodes {
		return refuse(n.GetToken(), "there are more than %.0f values, which is the limit; an alias counts as all it stands for", maxNodes)
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.AnchorNode:
		if err := d.value(n.Value, v); err != nil {
			return err
		}
		d.anchors[n.Name.GetToken().Value] = n.Value
		return nil
	case *ast.AliasNode:
		to := d.anchors[n.Value.GetToken().Value]
		if to == nil {
			return refuse(n.GetToken(), "there is no anchor &%.40s before this", n.Value.GetToken().Value)
		}
		return d.value(to, v)
	case *ast.TagNode:
		return refuse(n.GetToken(), "tags such as %.40s are not understood: leave it out", n.Start.Value)
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		v.Set(p)
		return d.value(n, p.Elem())
	}
	if done, err := short(n, v); done {
		return err
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.object(n, v)
	case reflect.Map:
		return d.names(n, v)
	case reflect.Slice:
		return d.list(n, v)
	}
	return scalar(n, v)
}

// object reads a mapping into a struct.
func (d *decoder) object(n ast.Node, v reflect.Value) error {
	return d.each(n, func(key string, at, value ast.Node) error {
		field, ok := fieldOf(v.Type(), key)
		if !ok || given[key] {
			return refuse(at.GetToken(), "unknown key %.70q: use %s", key, strings.Join(keysOf(v.Type()), ", "))
		}
		return d.value(value, v.FieldByIndex(field.Index))
	})
}

// names reads a mapping from names.
func (d *decoder) names(n ast.Node, v reflect.Value) error {
	v.Set(reflect.MakeMap(v.Type()))
	return d.each(n, func(key string, at, value ast.Node) error {
		if err := d.name(key, v.Type().Elem()); err != nil {
			return refuse(at.GetToken(), "%v", err)
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(value, e); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key), e)
		return nil
	})
}

// name refuses what can't be the name of a network, router or port.
func (d *decoder) name(key string, of reflect.Type) error {
	switch of {
	case reflect.TypeFor[api.NetworkConfig]():
		return api.CheckName("network", key)
	case reflect.TypeFor[api.RouterConfig]():
		return api.CheckName("router", key)
	case reflect.TypeFor[api.PortConfig]():
		if d.ports[key] {
			return fmt.Errorf("there is another port %.70q in this file: a name is used once in all networks", key)
		}
		d.ports[key] = true
		return api.CheckName("port", key)
	}
	return nil
}

// each calls f for the pairs of a mapping.
func (d *decoder) each(n ast.Node, f func(key string, at, value ast.Node) error) error {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		return refuse(n.GetToken(), "this is %s where KEY: VALUE pairs are wanted", kind(n))
	}
	seen := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		key, ok := keyText(p.Key)
		if !ok {
			return refuse(p.Key.GetToken(), "this key is %s: use a plain word", kind(p.Key))
		}
		if seen[key] {
			return refuse(p.Key.GetToken(), "key %.70q is given twice", key)
		}
		seen[key] = true
		if err := f(key, p.Key, p.Value); err != nil {
			return err
		}
	}
	return nil
}

// keyText returns a key as it is written: a network may be called 1 or on.
func keyText(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return k.GetToken().Value, true
	}
	return "", false
}

func (d *decoder) list(n ast.Node, v reflect.Value) error {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		return refuse(n.GetToken(), "this is %s where a list is wanted: write [%s]", kind(n), "VALUE, ...")
	}
	for _, item := range s.Values {
		e := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(item, e); err != nil {
			return err
		}
		v.Set(reflect.Append(v, e))
	}
	return nil
}

func scalar(n ast.Node, v reflect.Value) error {
	want := map[reflect.Kind]string{reflect.String: "text", reflect.Bool: "true or false"}[v.Kind()]
	switch n := n.(type) {
	case *ast.StringNode:
		if v.Kind() == reflect.String {
			v.SetString(n.Value)
			return nil
		}
	case *ast.LiteralNode:
		if v.Kind() == reflect.String {
			v.SetString(n.Value.Value)
			return nil
		}
	case *ast.BoolNode:
		if v.Kind() == reflect.Bool {
			v.SetBool(n.Value)
			return nil
		}
	case *ast.IntegerNode:
		if v.CanInt() || v.CanUint() {
			return integer(n, v)
		}
	}
	if want == "" {
		want = "a number"
	}
	hint := ""
	if v.Kind() == reflect.String && n.Type() != ast.MappingType && n.Type() != ast.SequenceType {
		hint = `; put it in "quotes"`
	}
	return refuse(n.GetToken(), "this is %s where %s is wanted%s", kind(n), want, hint)
}

func integer(n *ast.IntegerNode, v reflect.Value) error {
	low, high := int64(math.MinInt32), int64(math.MaxInt32)
	if v.CanUint() {
		low, high = 0, min(high, int64(1)<<v.Type().Bits()-1)
	}
	x, err := strconv.ParseInt(strings.ReplaceAll(n.Token.Value, "_", ""), 0, 64)
	if err != nil || x < low || x > high {
		return refuse(n.GetToken(), "%.40s is out of range: use %d to %d", n.Token.Value, low, high)
	}
	if v.CanUint() {
		v.SetUint(uint64(x))
	} else {
		v.SetInt(x)
	}
	return nil
}

// kind says what a node is.
func kind(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return n.GetToken().Value
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	}
	return "a " + strings.ToLower(n.Type().String())
}

// fieldOf finds a field by its key in JSON, embedded ones included.
func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if !f.Anonymous && keyOf(f) == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return key
}

// keysOf lists the keys that a file may use.
func keysOf(t reflect.Type) (keys []string) {
	for _, f := range reflect.VisibleFields(t) {
		if key := keyOf(f); !f.Anonymous && !given[key] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
