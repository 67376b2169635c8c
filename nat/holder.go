package nat

import (
	"container/heap"

	"vswitch/internal/packet"
)

// network counts the connections that one network's ports opened, and knows who has most.
type network struct {
	id    uint32
	ports map[packet.PortID]*holder
	rank             // in Table.biggest, by all its connections
	most  [2]ranking // ports by their connections, see holder.lists
}

// holder lists the connections that one port opened.
type holder struct {
	id    uint32
	net   *network
	port  packet.PortID
	lists [2]list // 0: those not established; 1: the established. In the order of coming, or of last being spared
	ranks [2]rank // in net.most
}

// list is a doubly linked list of connections, named by their slots; 0 is none.
type list struct{ head, tail uint32 }

// rank is a place in a ranking.
type rank struct {
	n     int // connections
	place int
	of    any // *network or *holder
}

// ranking is a heap with the one that has most on top.
type ranking []*rank

func (r ranking) Len() int           { return len(r) }
func (r ranking) Less(i, j int) bool { return r[i].n > r[j].n }
func (r ranking) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].place, r[j].place = i, j
}

// Push implements heap.Interface.
func (r *ranking) Push(x any) {
	k := x.(*rank)
	k.place = len(*r)
	*r = append(*r, k)
}

// Pop implements heap.Interface.
func (r *ranking) Pop() any {
	last := len(*r) - 1
	k := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return k
}

// count changes what a rank counts.
func (r *ranking) count(k *rank, by int) {
	k.n += by
	heap.Fix(r, k.place)
}

// holderOf returns the port's holder in the network, made when there is none.
func (t *Table) holderOf(id uint32, port packet.PortID) *holder {
	net := t.networks[id]
	if net == nil {
		net = &network{id: id, ports: map[packet.PortID]*holder{}}
		net.of = net
		t.networks[id] = net
		heap.Push(&t.biggest, &net.rank)
	}
	h := net.ports[port]
	if h != nil {
		return h
	}
	h = &holder{net: net, port: port}
	if n := len(t.unused); n > 0 {
		h.id, t.unused = t.unused[n-1], t.unused[:n-1]
		t.holders[h.id] = h
	} else {
		h.id = uint32(len(t.holders))
		t.holders = append(t.holders, h)
	}
	net.ports[port] = h
	for i := range h.ranks {
		h.ranks[i].of = h
		heap.Push(&net.most[i], &h.ranks[i])
	}
	return h
}

// dropHolder forgets a holder without connections, and its network when that is its last one.
func (t *Table) dropHolder(h *holder) {
	net := h.net
	if h.ranks[0].n+h.ranks[1].n > 0 {
		return
	}
	for i := range h.ranks {
		heap.Remove(&net.most[i], h.ranks[i].place)
	}
	delete(net.ports, h.port)
	t.holders[h.id] = nil
	t.unused = append(t.unused, h.id)
	if len(net.ports) == 0 {
		heap.Remove(&t.biggest, net.place)
		delete(t.networks, net.id)
	}
}

// listOf tells in which of a holder's lists a connection of the state is.
func listOf(s State) int {
	if s.lasting() {
		return 1
	}
	return 0
}

// hold enters a connection, new in its slot, as the holder's.
func (t *Table) hold(slot uint32, h *holder) {
	c := t.at(slot)
	c.holder = h.id
	c.seen = t.recent(slot)
	t.pushBack(h, listOf(c.state), slot)
	t.biggest.count(&h.net.rank, 1)
}

// release takes a connection from its holder.
func (t *Table) release(slot uint32) {
	c := t.at(slot)
	h := t.holders[c.holder]
	t.unlink(h, listOf(c.state), slot)
	t.biggest.count(&h.net.rank, -1)
	c.holder = 0
	t.dropHolder(h)
}

// relist moves a connection whose state changed to the end of the list that it belongs to.
func (t *Table) relist(slot uint32, was State) {
	c := t.at(slot)
	h := t.holders[c.holder]
	t.unlink(h, listOf(was), slot)
	t.pushBack(h, listOf(c.state), slot)
}

func (t *Table) pushBack(h *holder, i int, slot uint32) {
	l, c := &h.lists[i], t.at(slot)
	c.prev, c.next = l.tail, 0
	if l.tail != 0 {
		t.at(l.tail).next = slot
	} else {
		l.head = slot
	}
	l.tail = slot
	h.net.most[i].count(&h.ranks[i], 1)
}

func (t *Table) unlink(h *holder, i int, slot uint32) {
	l, c := &h.lists[i], t.at(slot)
	if c.prev != 0 {
		t.at(c.prev).next = c.next
	} else {
		l.head = c.next
	}
	if c.next != 0 {
		t.at(c.next).prev = c.prev
	} else {
		l.tail = c.prev
	}
	h.net.most[i].count(&h.ranks[i], -1)
}
