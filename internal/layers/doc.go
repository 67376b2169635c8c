// Package layers holds the test that imports point down only.
package layers
