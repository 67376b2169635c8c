package l2switch

// Learned is what a source address told the FDB.
type Learned uint8

const (
	Unchanged     Learned = iota // the address is known on this port
	New                          // it was not known
	Moved                        // it was learned on another port
	RefusedStatic                // a static entry places it on another port, and stays
	RefusedGone                  // the port is not one of the FDB's: it was removed while its frame was on the way
	Damped                       // it moved too often: it goes back to where it was before, and is held there
	Held                         // it was damped a short while ago, and stays
)

var learnedNames = [...]string{
	"unchanged", "new", "moved", "refused: static elsewhere", "refused: port is gone", "damped", "held",
}

// String returns the outcome in words, for traces.
func (l Learned) String() string { return learnedNames[l] }

// Elsewhere tells whether the address belongs to another port than the one it came from, or did until now: a reason to look
// for a loop.
func (l Learned) Elsewhere() bool {
	return l == Moved || l == RefusedStatic || l == Damped || l == Held
}
