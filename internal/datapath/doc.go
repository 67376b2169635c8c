// Package datapath moves frames: workers that read ports, look up or ask for a decision, execute it, merge what leaves and
// write. It knows no tables of addresses; who decides is behind Classifier.
package datapath
