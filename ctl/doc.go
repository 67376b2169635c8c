// Package ctl is the client of the daemon's control socket: one method for each verb.
//
// The daemon listens on a unix socket, which root and the members of the group vswitch may use. A Client connects when it needs to,
// so making one never fails:
//
//	c := ctl.New(ctl.DefaultSocket)
//	defer c.Close()
//	networks, err := c.Networks(ctx)
//
// What the daemon refuses comes back as *api.Error with a stable Code and a Detail that says what to do. A daemon that isn't there,
// or went away before it answered, is an error that matches ErrUnreachable:
//
//	var refused *api.Error
//	switch {
//	case errors.Is(err, ctl.ErrUnreachable):
//		// start the daemon
//	case errors.As(err, &refused) && refused.Code == api.CodeNotFound:
//		// there is no such network
//	}
//
// docs/api.md describes the same API for other languages.
package ctl
