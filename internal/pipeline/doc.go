// Package pipeline decides the fate of a frame: the one visible order of stages, for live frames, traces and tests alike.
package pipeline
