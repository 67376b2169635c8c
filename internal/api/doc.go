// Package api holds the plain types of intent, wire and store: what a user asks for and what the daemon answers, as versioned JSON.
package api
