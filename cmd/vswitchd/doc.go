// Command vswitchd is the switch's daemon.
package main
