// Command vsctl is the command line of vswitch: each of its verbs is one call of the daemon's control API.
package main
