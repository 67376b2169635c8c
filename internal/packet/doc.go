// Package packet holds a frame in memory, views of its headers, the one parser that validates them, the flow key and the
// reasons for dropping. It imports the standard library only.
package packet
