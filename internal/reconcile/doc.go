// Package reconcile plans the way from what is to what is wanted: at a start, from what a dead daemon left to the stored intent (Plan), and
// from one configuration to another, as `apply` asks for it: Compare says what differs, Operations by which verbs, in which order, to get there.
// It only reads what it is given.
package reconcile
