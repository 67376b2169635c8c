// Program bench compares vswitch with its peers: the kernel bridge, a bare veth pair, and the pump that everybody writes
// first. It measures all of them in one run, interleaved, and reports ratios to the kernel bridge.
//
// How it measures is told in README.md beside this file.
package main
