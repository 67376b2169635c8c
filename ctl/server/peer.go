package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of the socket, as the kernel knows it (SO_PEERCRED). The zero value stands for an unknown one.
type Peer struct {
	PID      int32
	UID, GID uint32
	Comm     string // what it called itself when it connected; "" when that can't be read
	Known    bool
}

func (p Peer) root() bool { return p.Known && p.UID == 0 }

// LogValue tells who it is.
func (p Peer) LogValue() slog.Value {
	if !p.Known {
		return slog.StringValue("unknown")
	}
	return slog.GroupValue(slog.Int("pid", int(p.PID)), slog.String("comm", p.Comm),
		slog.Int("uid", int(p.UID)), slog.Int("gid", int(p.GID)))
}

type clientKey struct{}

func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// clientOf returns the connection that a request came by; nil in tests that have none.
func clientOf(r *http.Request) *client {
	c, _ := r.Context().Value(clientKey{}).(*client)
	return c
}

// PeerOf returns the process that sent the request of ctx, a context that a Backend's method was given.
func PeerOf(ctx context.Context) Peer {
	if c, ok := ctx.Value(clientKey{}).(*client); ok {
		return c.peer
	}
	return Peer{}
}

func peerOf(c net.Conn) Peer {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Peer{}
	}
	var cred *unix.Ucred
	raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || cred == nil {
		return Peer{}
	}
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cred.Pid))
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid, Comm: strings.TrimSuffix(string(comm), "\n"), Known: true}
}
