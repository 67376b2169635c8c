package vswitch

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"vswitch/internal/api"
)

// setNetwork changes a network of the draft. Its ports of the draft belong to the changed one from here on.
func (d *draft) setNetwork(r *api.NetworkChange) (outcome, error) {
	if r.Name == nil {
		return outcome{}, invalid("the name of the network is missing")
	}
	n := d.networks[*r.Name]
	if n == nil {
		return outcome{}, noNetwork(*r.Name)
	}
	next, err := d.s.reconceive(&d.state, n, r)
	if err != nil {
		return outcome{}, err
	}
	pools, err := n.pools.Change(next.Subnets)
	if err != nil {
		return outcome{}, err
	}
	if reflect.DeepEqual(*next, n.Network) {
		return outcome{network: n, unchanged: true}, nil
	}
	changed := &network{Network: *next, pools: pools, line: n.line}
	if d.s.atWork(n) == n && d.s.networks[n.Name] != n { // it is new itself
		if changed, err = newNetwork(next); err != nil {
			return outcome{}, err
		}
		changed.pools = pools
	}
	d.networks[n.Name] = changed
	for name, e := range d.ports {
		if e.net == n {
			c := *e
			c.net = changed
			if err := d.repost(&c); err != nil {
				return outcome{}, err
			}
			d.ports[name] = &c
			d.charge(e.port.ID)
		}
	}
	return outcome{network: changed}, nil
}

// working returns the port of that name, if it is new or at work.
func (d *draft) working(name string) (*endpoint, error) {
	e := d.ports[name]
	if e != nil && d.s.live(e) == nil {
		return e, nil
	}
	if e == nil {
		return nil, noPort(name)
	}
	_, err := d.s.working(name)
	return e, err
}

func (d *draft) setPort(r *api.PortChange) (outcome, error) {
	if r.Name == nil {
		return outcome{}, invalid("the name of the port is missing")
	}
	e, err := d.working(*r.Name)
	if err != nil {
		return outcome{}, err
	}
	next, given, err := d.altered(e, r)
	if err != nil {
		return outcome{}, err
	}
	if n := e.net; n != nil {
		d.undo = append(d.undo, func() { n.giveBack(given) })
		gone := slices.DeleteFunc(slices.Clone(e.port.IPs), func(p netip.Prefix) bool { return slices.Contains(next.IPs, p) })
		d.release(e, gone)
	}
	return d.become(e, e.net, next)
}

// release gives addresses of a port back, for later operations.
func (d *draft) release(e *endpoint, ips []netip.Prefix) {
	name, pools := e.port.Name, e.net.pools
	if d.s.live(e) == nil {
		pools.Return(ips) // nobody has seen them
	} else {
		pools.Release(name, ips, time.Now())
	}
	d.undo = append(d.undo, func() { _ = pools.Restore(name, ips) }) // an error: it did not have them
}

// become makes the port of the draft what next says, on network n or on none.
func (d *draft) become(e *endpoint, n *network, next *api.Port) (outcome, error) {
	same := reflect.DeepEqual(&e.port, next)
	c := *e
	c.port, c.net = *next, n
	if err := d.repost(&c); err != nil {
		return outcome{}, err
	}
	*next = c.port
	d.ports[next.Name] = &c
	d.charge(next.ID)
	return outcome{port: next, unchanged: same}, nil
}

// repost makes a port of the draft publish what it has to.
func (d *draft) repost(e *endpoint) error {
	list, err := d.post(d.s.viewFrom(e.net, &e.port), e.net, &e.port)
	if err == nil {
		d.enforce(e.port.Name, list)
	}
	return err
}

func (d *draft) publish(r *api.PublishRequest) (outcome, error) {
	e, err := d.working(r.Port)
	if err != nil {
		return outcome{}, err
	}
	next, i, err := publishing(e, r)
	if err != nil {
		return outcome{}, err
	}
	x, err := d.become(e, e.net, next)
	if err == nil {
		row := d.s.describePublished(e.net, next, &next.Publish[i])
		x.port, x.published = nil, &row
	}
	return x, err
}

func (d *draft) unpublish(r *api.UnpublishRequest) (outcome, error) {
	e, err := d.working(r.Port)
	if err != nil {
		return outcome{unchanged: true}, unless(r.IfExists && d.ports[r.Port] == nil, err)
	}
	next, err := unpublishing(e, r)
	if err != nil {
		return outcome{}, err
	}
	x, err := d.become(e, e.net, next)
	x.port = nil
	return x, err
}

// charge notes that the operation now being planned is the one to blame for a port, unless an earlier one is.
func (d *draft) charge(id string) {
	if _, ok := d.made[id]; !ok {
		d.made[id] = len(d.results)
	}
}

func (d *draft) connect(r *api.NamedConnect) (outcome, error) {
	e, err := d.working(r.Name)
	if err != nil {
		return outcome{}, err
	}
	n := d.networks[r.Network]
	switch {
	case n == nil:
		return outcome{}, noNetwork(r.Network)
	case e.net != nil:
		return outcome{port: &e.port, unchanged: true}, connected(e, &r.ConnectRequest)
	}
	next, err := d.connecting(e, n, &r.ConnectRequest)
	if err != nil {
		return outcome{}, err
	}
	d.undo = append(d.undo, func() { n.giveBack(next.IPs) })
	return d.become(e, n, next)
}

func (d *draft) disconnect(r *api.NamedDisconnect) (outcome, error) {
	e := d.ports[r.Name]
	if e == nil || e.net == nil && r.IfExists {
		return outcome{unchanged: true}, unless(r.IfExists, noPort(r.Name))
	}
	if d.s.live(e) == nil {
		return outcome{}, api.Errorf(api.CodeRefused, "port %s is added by the same transaction: a port is added on a network", r.Name)
	}
	if _, err := d.s.working(r.Name); err != nil {
		return outcome{}, err
	}
	next, err := disconnecting(e, &r.DisconnectRequest)
	if err != nil {
		return outcome{}, err
	}
	d.release(e, e.port.IPs)
	return d.become(e, nil, next)
}
