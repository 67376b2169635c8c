// Package vswitch is the composition root: it wires store, devices, pipeline and data plane, and has one short method per control verb.
package vswitch
