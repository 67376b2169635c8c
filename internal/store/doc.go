// Package store keeps intent on disk: networks and ports as versioned JSON in a bbolt file.
package store
