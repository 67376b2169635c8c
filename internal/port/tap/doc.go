// Package tap is the port over an attached TAP device.
package tap
