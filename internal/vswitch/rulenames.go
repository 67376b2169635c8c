package vswitch

import (
	"fmt"
	"strings"

	"vswitch/internal/acl"
	"vswitch/internal/api"
)

// namer tells which networks and ports there are.
type namer interface{ has(kind, name string) bool }

func (st *state) has(kind, name string) bool {
	if kind == kindNetwork {
		return st.networks[name] != nil
	}
	return st.ports[name] != nil
}

// resolve checks a rule, and puts their kind before the names in it.
func resolve(r acl.Rule, names namer) (acl.Rule, error) {
	r, err := acl.Check(r)
	if err != nil {
		return r, err
	}
	if r.On, err = kinded(r.On, names); err != nil {
		return r, err
	}
	for option, peer := range map[string]*string{"--src": &r.Src, "--dst": &r.Dst} {
		if name, ok := strings.CutPrefix(*peer, "@"); ok {
			if name, err = kinded(name, names); err != nil {
				return r, fmt.Errorf("%s: %w", option, err)
			}
			*peer = "@" + name
		}
	}
	return r, nil
}

// kinded returns a name with its kind, if there is such a network or port.
func kinded(s string, names namer) (string, error) {
	if kind, name, ok := strings.Cut(s, ":"); ok {
		if !names.has(kind, name) {
			return "", api.Errorf(api.CodeNotFound, "no %s %.70q; see 'vsctl list-%ss'", kind, name, kind)
		}
		return s, nil
	}
	network, port := names.has(kindNetwork, s), names.has(kindPort, s)
	switch {
	case network && port:
		return "", invalid("a port and a network are both named %s; write port:%s or network:%s", s, s, s)
	case network:
		return ownerOf(kindNetwork, s), nil
	case port:
		return ownerOf(kindPort, s), nil
	}
	return "", api.Errorf(api.CodeNotFound, "no network or port %.70q; see 'vsctl list-networks' and 'vsctl list-ports'", s)
}

// brief writes the names in a rule without their kinds, where they are clear without.
func (st *state) brief(r acl.Rule) api.Rule {
	short := func(s string) string {
		kind, name, ok := strings.Cut(s, ":")
		other := map[string]string{kindPort: kindNetwork, kindNetwork: kindPort}[kind]
		if !ok || !st.has(kind, name) || st.has(other, name) {
			return s
		}
		return name
	}
	r.On = short(r.On)
	for _, peer := range []*string{&r.Src, &r.Dst} {
		if name, ok := strings.CutPrefix(*peer, "@"); ok {
			*peer = "@" + short(name)
		}
	}
	return api.Rule(r)
}
