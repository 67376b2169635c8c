package vswitch

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	l2switch "vswitch/switch"

	"vswitch/internal/api"
	"vswitch/internal/store"
	"vswitch/nat"
)

// Publish publishes ports of a container. It is on disk before the answer, and touches no connection that there is.
func (s *Switch) Publish(_ context.Context, r api.PublishRequest) (api.PublishedPort, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	e, err := s.working(r.Port)
	if err != nil {
		return api.PublishedPort{}, err
	}
	next, i, err := publishing(e, &r)
	if err == nil && i >= len(e.port.Publish) {
		err = s.setPublished(e, next)
	}
	if err != nil {
		return api.PublishedPort{}, err
	}
	return s.describePublished(e.net, next, &next.Publish[i]), nil
}

// Unpublish takes published ports back, and ends the connections that came by them.
func (s *Switch) Unpublish(_ context.Context, r api.UnpublishRequest) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	e, err := s.working(r.Port)
	if err != nil {
		return err
	}
	next, err := unpublishing(e, &r)
	if err != nil || len(next.Publish) == len(e.port.Publish) {
		return err
	}
	return s.setPublished(e, next)
}

// setPublished makes a port at work publish what next does, and nothing else of next. Its device is not touched.
func (s *Switch) setPublished(e *endpoint, next *api.Port) error {
	list, err := s.post(s.viewFrom(e.net, next), e.net, next)
	if err != nil {
		return err
	}
	_, come := changesOf(s.published[e.port.Name], list)
	undo, err := s.listen(come)
	if err != nil {
		return err
	}
	if err = s.fail.at("publish.checked"); err == nil {
		err = s.store.PutPort(store.PortRecord{Port: *next, Phase: store.PhasePresent})
	}
	if err != nil {
		undo()
		return err
	}
	s.passing("publish.recorded")
	was := e.port.Publish
	s.mu.Lock()
	e.port.Publish = next.Publish
	s.mu.Unlock()
	s.repost(e.port.Name, list)
	s.passing("publish.done")
	s.events.Publish("port.changed", e.port.Name, publishText(was, next.Publish))
	return nil
}

// publishText tells for people what is published and what no longer: a port may publish thousands.
func publishText(was, is []api.Publish) string {
	var words []string
	for _, x := range api.OtherPublish(is, was) {
		words = append(words, fmt.Sprintf("publish %v", x))
	}
	for _, x := range api.OtherPublish(was, is) {
		words = append(words, fmt.Sprintf("unpublish %v", x))
	}
	return strings.Join(words, ", ")
}

// publishing returns the port as it is asked to be, and which of what it publishes is meant: one beyond what it has now is new.
func publishing(e *endpoint, r *api.PublishRequest) (next *api.Port, i int, err error) {
	p := e.port
	if r.Publish.Port == 0 {
		return nil, 0, invalid(`what to publish is missing: "publish" is as in "8080:80/tcp"`)
	}
	if r.MayExist {
		if i := slices.IndexFunc(p.Publish, func(has api.Publish) bool { return r.Publish.Asks(&has) }); i >= 0 {
			return &p, i, nil
		}
	}
	p.Publish = append(slices.Clip(p.Publish), r.Publish)
	return &p, len(p.Publish) - 1, checkPublish(p.Publish)
}

// unpublishing returns the port as it is asked to be.
func unpublishing(e *endpoint, r *api.UnpublishRequest) (*api.Port, error) {
	p := e.port
	p.Publish = unasked(p.Publish, r.Publish)
	if len(p.Publish) < len(e.port.Publish) || r.IfExists {
		return &p, nil
	}
	if r.Publish == nil {
		return nil, api.Errorf(api.CodeNotFound, "port %s publishes nothing", p.Name)
	}
	return nil, notPublished(&p, r.Publish)
}

// unasked returns what is published but not asked for; nil asks for all.
func unasked(list []api.Publish, asked *api.Publish) (rest []api.Publish) {
	for i := range list {
		if asked != nil && !asked.Asks(&list[i]) {
			rest = append(rest, list[i])
		}
	}
	return rest
}

func notPublished(p *api.Port, asked *api.Publish) error {
	return api.Errorf(api.CodeNotFound, "port %s does not publish %v; 'vsctl list-published %s' says what it does", p.Name, asked, p.Name)
}

// setPublish removes and adds what the port publishes.
func setPublish(p *api.Port, r *api.PortChange) error {
	for i := range r.RemovePublish {
		rest := unasked(p.Publish, &r.RemovePublish[i])
		if len(rest) == len(p.Publish) {
			return notPublished(p, &r.RemovePublish[i])
		}
		p.Publish = rest
	}
	p.Publish = append(slices.Clip(p.Publish), r.AddPublish...)
	return checkPublish(p.Publish)
}

// maxPublish is how many publications, ranges counted once, a port can have: its record has to be written whole.
const maxPublish = 4096

func checkPublish(list []api.Publish) error {
	if len(list) > maxPublish {
		return api.Errorf(api.CodeExhausted, "a port publishes %d ports or ranges at most: publish ranges", maxPublish)
	}
	for i := range list {
		if list[i].Port == 0 {
			return invalid("what to publish is missing its port")
		}
	}
	return nil
}

// inUntagged tells whether a port is in the untagged VLAN, where its network's gateway is.
func inUntagged(p *api.Port) (bool, error) {
	member, err := l2switch.NewMembership(p.VLAN, p.Trunk, p.Native)
	if err != nil {
		return false, err
	}
	_, in := member.Egress(0)
	return in, nil
}

// mayPublish says why a port on network n, nil for none, can't publish something now. What is published already rests then.
func mayPublish(n *network, p *api.Port, x *api.Publish) error {
	refuse := func(format string, args ...any) error {
		return api.Errorf(api.CodeRefused, "port %s can't publish %v: %s", p.Name, x, fmt.Sprintf(format, args...))
	}
	if n == nil {
		return refuse("it is on no network; 'vsctl connect %s NETWORK' puts it on one", p.Name)
	}
	untagged, err := inUntagged(p)
	if err != nil {
		return refuse("%v", err)
	}
	switch {
	case p.Type == api.PortHost:
		return refuse("it is the host's own, and what listens there is reached at the host's addresses as it is")
	case n.Internal:
		return refuse("network %s is internal, so that nobody outside reaches it; 'vsctl set-network %s --internal=false' changes that", n.Name, n.Name)
	case len(gatewayPrefixes(&n.Network)) == 0:
		return refuse("network %s has no gateway, by which connections would come; give it a subnet, and no --no-gateway", n.Name)
	case !untagged:
		return refuse("it is not in the untagged VLAN, where the gateway of network %s is", n.Name)
	case len(p.IPs) == 0:
		return refuse("it has no address; 'vsctl set-port %s --ip ADDRESS' gives it one", p.Name)
	case len(targets(p, x)) == 0:
		return refuse("it has no address of the family of %v", x.HostIP)
	}
	return nil
}

// targets returns the container's addresses that connections go to: the first of each family, of those that are published.
func targets(p *api.Port, x *api.Publish) (list []netip.Addr) {
	for _, ip := range p.IPs {
		a := ip.Addr()
		again := slices.ContainsFunc(list, func(b netip.Addr) bool { return b.Is4() == a.Is4() })
		if !again && (!x.HostIP.IsValid() || x.HostIP.Is4() == a.Is4()) {
			list = append(list, a)
		}
	}
	return list
}

// Published lists what a port publishes, or what all do.
func (s *Switch) Published(_ context.Context, port string) ([]api.PublishedPort, error) {
	out := []api.PublishedPort{}
	for _, e := range s.endpoints() {
		if port != "" && port != e.port.Name {
			continue
		}
		for i := range e.port.Publish {
			out = append(out, s.describePublished(e.net, &e.port, &e.port.Publish[i]))
		}
	}
	if port != "" {
		if _, err := s.endpoint(port); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// describePublished tells what becomes of something that a port on network n publishes.
func (s *Switch) describePublished(n *network, p *api.Port, x *api.Publish) api.PublishedPort {
	row := api.PublishedPort{Port: p.Name, Publish: *x}
	if n != nil {
		row.Network, row.Router = n.Name, n.Router
	}
	if err := mayPublish(n, p, x); err != nil {
		row.Why = err.Error()
		return row
	}
	q := publicationOf(0, n, p, x)
	row.To = q.To
	s.mu.RLock()
	list := s.published[p.Name]
	s.mu.RUnlock()
	if i := slices.IndexFunc(list, func(has *nat.Publication) bool { return keyOf(has) == keyOf(q) }); i >= 0 {
		row.Host, row.HostProblem = s.byHost(list[i : i+1])
	}
	if s.isNobodys(n.Router, x.HostIP) {
		row.Host, row.HostProblem = "", fmt.Sprintf("%v is no address of the host or of router %s now", x.HostIP, n.Router)
	}
	return row
}

// isNobodys tells whether somebody listens in vain at the address: neither the host nor the router has it. Of link-local ones the host port
// knows nothing.
func (s *Switch) isNobodys(router string, a netip.Addr) bool {
	if s.hostPort.Port == nil || !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() || s.router(router).Snapshot().Own(a) != nil {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := &s.hostPort.state
	return st.Index != 0 && !slices.Contains(st.Local, a) && !slices.Contains(st.Inside, a) && !slices.Contains(addrsOf(st.Addrs), a)
}
