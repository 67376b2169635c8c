// Package layers holds the tests of the house as a whole: imports point down only, and docs/limits.md tells the truth.
package layers
