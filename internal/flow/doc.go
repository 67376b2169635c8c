// Package flow holds cached decisions: actions, verdicts, the references that keep them right, and the exact-match table.
package flow
