//go:build !race

package netnstest

const raceEnabled = false
