package reconcile

import "slices"

// Phase is how far the last daemon got with a port.
type Phase string

// The phases of a port's record.
const (
	Adding   Phase = "adding"   // the verb has not answered: nobody was promised the port
	Present  Phase = "present"  // the verb has answered
	Deleting Phase = "deleting" // the port is no more wanted, its device may be left
)

// Wanted is a port of the stored intent.
type Wanted struct {
	ID     string
	Phase  Phase
	Remake bool // the last daemon took the device away for a while, and may have died meanwhile
}

// Op is what to do with a port.
type Op int

// The operations, in the order in which they are done: first what frees names and addresses, then what carries traffic
// already, then what has to be found again.
const (
	Finish   Op = iota // finish its deletion
	Rollback           // undo its half-done attachment
	Drop               // nobody knows this device: remove it
	Adopt              // go on with the file descriptors that were kept
	Reopen             // the file descriptors are lost: find the device in its namespace
	Remake             // remove what is left of the device and make it anew
)

func (o Op) String() string {
	return [...]string{"finish", "rollback", "drop", "adopt", "reopen", "remake"}[o]
}

// Step is one thing to do.
type Step struct {
	Op Op
	ID string // of the port
}

// Plan returns the steps from what is held to what is wanted. held names the ports of which file descriptors were kept.
// The order is fixed: by operation, then as in wanted, then by id.
func Plan(wanted []Wanted, held []string) []Step {
	have := make(map[string]bool, len(held))
	for _, id := range held {
		have[id] = true
	}
	known := make(map[string]bool, len(wanted))
	var steps []Step
	for _, w := range wanted {
		known[w.ID] = true
		op := Reopen
		switch {
		case w.Phase == Deleting:
			op = Finish
		case w.Phase != Present:
			op = Rollback
		case w.Remake:
			op = Remake
		case have[w.ID]:
			op = Adopt
		}
		steps = append(steps, Step{op, w.ID})
	}
	for _, id := range slices.Sorted(slices.Values(held)) {
		if !known[id] {
			known[id] = true
			steps = append(steps, Step{Drop, id})
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return int(a.Op - b.Op) })
	return steps
}
