// Package mem holds a port without a device: frames go in and out by method calls. Tests build whole networks of it.
package mem
