package servertest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"vswitch/ctl/server"
)

// Serve serves b on a socket in a temporary folder and returns the socket's path. stop returns after the last request, with the error
// of server.Serve; it may be called again.
func Serve(b server.Backend, events *server.Events, log *slog.Logger) (path string, stop func() error, err error) {
	return serve(server.New(b, events, log).Serve, server.Listen)
}

func serve(run func(context.Context, net.Listener) error, listen func(string) (net.Listener, error)) (path string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "ctl") // testing's own may be too long for a socket
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "run", "s")
	l, err := listen(path)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, l) }()
	return path, sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-done, os.RemoveAll(dir))
	}), nil
}

// Start is Serve for a test, with which the server stops at the latest.
func Start(t testing.TB, b server.Backend, events *server.Events, log *slog.Logger) (path string, stop func() error) {
	t.Helper()
	path, stop, err := Serve(b, events, log)
	return start(t, path, stop, err)
}

// StartReadOnly is Start for a socket on which clients only look, and which all users reach.
func StartReadOnly(t testing.TB, b server.Backend, events *server.Events, log *slog.Logger) (path string, stop func() error) {
	t.Helper()
	path, stop, err := serve(server.New(b, events, log).ServeReadOnly, func(path string) (net.Listener, error) {
		if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil {
			return nil, err
		}
		return server.ListenReadOnly(path, "")
	})
	return start(t, path, stop, err)
}

func start(t testing.TB, path string, stop func() error, err error) (string, func() error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return path, stop
}
