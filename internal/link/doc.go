// Package link opens, makes, moves, configures and undoes devices in network namespaces and returns their file descriptors.
// It is the only user of netlink and netns. What it acquires it returns beside a function that gives it back.
package link
