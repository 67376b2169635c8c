//go:build race

package netnstest

// Slack is how many times the usual memory and time a daemon may take: the race detector costs 5 to 10 times the one, and up to 20 times
// the other.
const Slack = 10

const raceEnabled = true
