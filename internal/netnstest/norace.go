//go:build !race

package netnstest

// Slack is how many times the usual memory and time a daemon may take: more than once under the race detector.
const Slack = 1

const raceEnabled = false
