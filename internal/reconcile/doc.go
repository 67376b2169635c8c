// Package reconcile compares what the stored intent wants with what a dead daemon left, and plans the way from one to the other.
package reconcile
