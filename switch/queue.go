package l2switch

import "vswitch/internal/packet"

// queue holds the entries of one port.
type queue struct {
	port    packet.PortID
	limit   int  // learned entries at most; 0 is Limits.PerPort
	learned list // in the order of coming, or of last being spared by oldest
	static  list

	prev, next *queue // ports with as many learned entries, in ranks
}

// list is a doubly linked list of entries, named by their slots; 0 is none. An entry is in one list.
type list struct {
	head, tail uint32
	n          int
}

// pushBack puts the entry at the end of l.
func (t *FDB) pushBack(l *list, slot uint32) {
	e := t.at(slot)
	e.prev, e.next = l.tail, 0
	if l.tail != 0 {
		t.at(l.tail).next = slot
	} else {
		l.head = slot
	}
	l.tail = slot
	l.n++
}

// unlink takes the entry out of l.
func (t *FDB) unlink(l *list, slot uint32) {
	e := t.at(slot)
	if e.prev != 0 {
		t.at(e.prev).next = e.next
	} else {
		l.head = e.next
	}
	if e.next != 0 {
		t.at(e.next).prev = e.prev
	} else {
		l.tail = e.prev
	}
	l.n--
}

// oldest returns the port's learned entry that goes first: the one at the head, unless it was used since it was last looked
// at; then it goes to the back (second chance). Each step is paid for by a use, which makes the search O(1) amortized; uses
// that come in meanwhile can not keep it going, for it ends after one round. The port must have a learned entry.
func (t *FDB) oldest(q *queue) uint32 {
	for range q.learned.n {
		slot := q.learned.head
		e := t.at(slot)
		used := e.cell.LastUsed()
		if used == e.seen {
			break
		}
		e.seen = used
		t.unlink(&q.learned, slot)
		t.pushBack(&q.learned, slot)
	}
	return q.learned.head
}

// ranks finds the port that has most learned entries, in O(1): ports are listed by their number of entries, which changes
// by one at a time.
type ranks struct {
	by   []*queue // by[n] is the first of the ports with n entries
	most int      // the largest n with a port, or 0
}

// enter lists the port, which is new or has just left.
func (r *ranks) enter(q *queue) {
	n := q.learned.n
	for n >= len(r.by) {
		r.by = append(r.by, nil)
	}
	q.prev, q.next = nil, r.by[n]
	if q.next != nil {
		q.next.prev = q
	}
	r.by[n] = q
	if r.most = max(r.most, n); r.by[r.most] == nil {
		r.most = n // who left that place has one entry less now
	}
}

// leave takes out the port, as it was listed. It enters again with one entry more or less, or is removed without any.
func (r *ranks) leave(q *queue) {
	n := q.learned.n
	if q.prev != nil {
		q.prev.next = q.next
	} else {
		r.by[n] = q.next
	}
	if q.next != nil {
		q.next.prev = q.prev
	}
}

// first returns a port that has most entries. There must be a learned entry.
func (r *ranks) first() *queue { return r.by[r.most] }
