package acl

import (
	"fmt"
	"strings"

	"vswitch/internal/api"
)

// Has tells whether there is a network or a port of that name; kind is api.KindNetwork or api.KindPort.
type Has func(kind, name string) bool

// Owner names a network or port with its kind, as "port:web". In rules that are kept names are always written so: they mean the same
// whatever comes and goes.
func Owner(kind, name string) string { return kind + ":" + name }

// Resolve checks a rule and puts their kind before the names in it. Names that there are not, or that are a port's and a network's,
// are errors.
func Resolve(r Rule, has Has) (Rule, error) {
	r, err := Check(r)
	if err != nil {
		return r, err
	}
	if r.On, err = ResolveName(r.On, has); err != nil {
		return r, err
	}
	for option, peer := range map[string]*string{"--src": &r.Src, "--dst": &r.Dst} {
		if name, ok := strings.CutPrefix(*peer, "@"); ok {
			if name, err = ResolveName(name, has); err != nil {
				return r, fmt.Errorf("%s: %w", option, err)
			}
			*peer = "@" + name
		}
	}
	return r, nil
}

// ResolveName returns a name with its kind, if there is such a network or port.
func ResolveName(s string, has Has) (string, error) {
	if kind, name, ok := strings.Cut(s, ":"); ok {
		if !has(kind, name) {
			return "", api.Errorf(api.CodeNotFound, "no %s %.70q; see 'vsctl list-%ss'", kind, name, kind)
		}
		return s, nil
	}
	network, port := has(api.KindNetwork, s), has(api.KindPort, s)
	switch {
	case network && port:
		return "", invalid("a port and a network are both named %s; write port:%s or network:%s", s, s, s)
	case network:
		return Owner(api.KindNetwork, s), nil
	case port:
		return Owner(api.KindPort, s), nil
	}
	return "", api.Errorf(api.CodeNotFound, "no network or port %.70q; see 'vsctl list-networks' and 'vsctl list-ports'", s)
}

// Brief returns the rule for people: names are without their kinds where they are clear without.
func (r Rule) Brief(has Has) Rule {
	short := func(s string) string {
		kind, name, ok := strings.Cut(s, ":")
		other := map[string]string{api.KindPort: api.KindNetwork, api.KindNetwork: api.KindPort}[kind]
		if !ok || !has(kind, name) || has(other, name) {
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
	return r
}
