package vswitch

import (
	"fmt"
	"maps"
	"slices"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/link"
	"vswitch/internal/reconcile"
)

// draft is the configuration as a transaction will leave it, with what it takes to get there. Its operations look at the system
// and change the draft alone. Ports that are not there yet are endpoints without a device. Callers hold verb.
type draft struct {
	state
	s       *Switch
	all     []api.Operation
	undo    []func()         // gives back to pools of addresses, or takes from them again
	made    map[string]int   // id of a port that is added or changed -> number of the operation, of several the first
	forget  []api.FDBRequest // learned MACs to be forgotten
	results []outcome        // of the operations so far
}

// draft plans the operations in their order. It changes nothing but pools of addresses, which cancel gives back.
func (s *Switch) draft(operations []api.Operation) (*draft, error) {
	if len(operations) > api.MaxOperations {
		return nil, invalid("a transaction of %d operations: at most %d", len(operations), api.MaxOperations)
	}
	d := s.newDraft(operations)
	for i := range operations {
		if err := d.operate(&operations[i]); err != nil {
			d.cancel()
			return nil, fmt.Errorf("%w; nothing was changed", d.blameNumber(i, plainly(err)))
		}
	}
	return d, nil
}

// newDraft is a draft of what is.
func (s *Switch) newDraft(operations []api.Operation) *draft {
	now := state{networks: maps.Clone(s.networks), ports: maps.Clone(s.ports), routes: maps.Clone(s.routes), rules: maps.Clone(s.rules), lastRule: s.lastRule,
		published: maps.Clone(s.published), heard: s.heard.Clone(), uplinks: maps.Clone(s.uplinks)}
	return &draft{s: s, state: now, all: operations, made: make(map[string]int)}
}

// blame says which operation failed: the one that made or changed the port with that id.
func (d *draft) blame(id string, err error) error { return d.blameNumber(d.made[id], err) }

func (d *draft) blameNumber(i int, err error) error {
	if len(d.all) == 0 { // a single verb
		return err
	}
	o := &d.all[i]
	return fmt.Errorf("operation %d of %d (%s %.70s): %w", i+1, len(d.all), o.Op, o.Object(), err)
}

// cancel gives back what the draft has of the pools.
func (d *draft) cancel() {
	for _, f := range slices.Backward(d.undo) {
		f()
	}
	d.undo = nil
}

// operate adds an operation to the draft.
func (d *draft) operate(o *api.Operation) error {
	var x outcome
	var err error
	switch r := o.Request.(type) {
	case *api.NetworkRequest:
		x, err = d.addNetwork(r)
	case *api.NetworkChange:
		x, err = d.setNetwork(r)
	case *api.PortRequest:
		x, err = d.addPort(r)
	case *api.PortChange:
		x, err = d.setPort(r)
	case *api.NamedConnect:
		x, err = d.connect(r)
	case *api.NamedDisconnect:
		x, err = d.disconnect(r)
	case *api.DeleteRequest:
		switch o.Op {
		case api.OpDelNetwork:
			x, err = d.deleteNetwork(r)
		case api.OpDelUplink:
			x, err = d.deleteUplink(r)
		default:
			x, err = d.deletePort(r)
		}
	case *api.FDBRequest:
		if o.Op == api.OpAddFDB {
			x, err = d.addFDB(r)
		} else {
			x, err = d.deleteFDB(r)
		}
	case *api.RouteRequest:
		if o.Op == api.OpAddRoute {
			x, err = d.addRoute(r)
		} else {
			x, err = d.deleteRoute(r)
		}
	case *api.PublishRequest:
		x, err = d.publish(r)
	case *api.UnpublishRequest:
		x, err = d.unpublish(r)
	case *api.UplinkRequest:
		x, err = d.addUplink(r)
	case *api.RuleRequest:
		x, err = d.addRule(r)
	case *api.RuleDeletion:
		x, err = d.deleteRule(r)
	case *reconcile.Rules:
		x, err = d.replaceRules(r)
	default:
		err = invalid("%.40q is no operation", o.Op)
	}
	d.results = append(d.results, x)
	return err
}

func (d *draft) addNetwork(r *api.NetworkRequest) (outcome, error) {
	if n := d.networks[r.Name]; n != nil {
		if r.MayExist {
			return outcome{unchanged: true, network: n}, sameNetwork(&n.Network, r)
		}
		return outcome{}, networkExists(r.Name)
	}
	if err := checkNetworkRequest(r); err != nil {
		return outcome{}, err
	}
	conf, err := d.s.configure(&d.state, r)
	if err != nil {
		return outcome{}, err
	}
	n, err := newNetwork(conf)
	if err != nil {
		return outcome{}, err
	}
	d.networks[n.Name] = n
	return outcome{network: n}, nil
}

func (d *draft) deleteNetwork(r *api.DeleteRequest) (outcome, error) {
	n := d.networks[r.Name]
	if n == nil {
		return outcome{unchanged: true}, unless(r.IfExists, noNetwork(r.Name))
	}
	var ports []*endpoint
	for _, e := range d.ports {
		if e.net == n {
			ports = append(ports, e)
		}
	}
	if len(ports) > 0 && !r.Force {
		return outcome{}, networkInUse(r.Name, len(ports))
	}
	for _, e := range ports {
		d.drop(e)
	}
	delete(d.networks, r.Name)
	delete(d.rules, acl.Owner(api.KindNetwork, r.Name))
	return outcome{}, nil
}

// unless returns err unless it is forgiven.
func unless(forgiven bool, err error) error {
	if forgiven {
		return nil
	}
	return err
}

func (d *draft) addPort(r *api.PortRequest) (outcome, error) {
	if e := d.ports[r.Name]; e != nil {
		if r.MayExist {
			return outcome{unchanged: true, port: &e.port}, d.s.samePort(&d.state, &e.port, r)
		}
		return outcome{}, portExists(&e.port)
	}
	n := d.networks[r.Network]
	if n == nil {
		return outcome{}, noNetwork(r.Network)
	}
	p, target, err := d.s.plan(&d.state, n, r)
	if err != nil {
		return outcome{}, err
	}
	defer target.Close()
	if err := d.checkIfName(p, target); err != nil {
		return outcome{}, err
	}
	if err := d.assign(n, p, r); err != nil {
		return outcome{}, err
	}
	d.undo = append(d.undo, func() { n.pools.Return(p.IPs) })
	list, err := d.post(d.s.viewFrom(n, p), n, p)
	if err != nil {
		return outcome{}, err
	}
	d.enforce(p.Name, list)
	d.ports[p.Name] = &endpoint{port: *p, net: n, ns: target.ID()}
	d.charge(p.ID)
	return outcome{port: p}, nil
}

// checkIfName refuses an interface name that is taken in the namespace, and will be: it may be a port's that goes.
func (d *draft) checkIfName(p *api.Port, ns *link.Namespace) error {
	for _, e := range d.ports {
		if e.ns == ns.ID() && e.port.IfName == p.IfName {
			return link.TakenError(p.IfName, ns)
		}
	}
	st, err := link.Lookup(ns, p.IfName)
	if err != nil {
		return nil // it is free, or attaching will say what is wrong
	}
	for _, e := range d.s.ports {
		if e.ns == ns.ID() && e.index == st.Index {
			return nil // goes, or the draft would have it
		}
	}
	return link.TakenError(p.IfName, ns)
}

func (d *draft) deletePort(r *api.DeleteRequest) (outcome, error) {
	e := d.ports[r.Name]
	if e == nil {
		return outcome{unchanged: true}, unless(r.IfExists, noPort(r.Name))
	}
	d.drop(e)
	return outcome{}, nil
}

// drop takes the port out of the draft. Its addresses and names are free for later operations.
func (d *draft) drop(e *endpoint) {
	delete(d.ports, e.port.Name)
	delete(d.rules, acl.Owner(api.KindPort, e.port.Name))
	d.enforce(e.port.Name, nil)
	if e.net != nil {
		d.release(e, e.port.IPs)
	}
}

// live returns the endpoint of the same port as it is at work; nil when it is a new one.
func (s *Switch) live(e *endpoint) *endpoint {
	if l := s.ports[e.port.Name]; l != nil && l.port.ID == e.port.ID {
		return l
	}
	return nil
}
