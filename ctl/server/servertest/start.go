package servertest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"vswitch/ctl/server"
)

// Serve serves b on a socket in a temporary folder and returns the socket's path. stop returns after the last request, with the error
// of server.Serve; it may be called again.
func Serve(b server.Backend, events *server.Events, log *slog.Logger) (path string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "ctl") // testing's own may be too long for a socket
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "run", "s")
	l, err := server.Listen(path)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.New(b, events, log).Serve(ctx, l) }()
	return path, sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-done, os.RemoveAll(dir))
	}), nil
}

// Start is Serve for a test, with which the server stops at the latest.
func Start(t testing.TB, b server.Backend, events *server.Events, log *slog.Logger) (path string, stop func() error) {
	t.Helper()
	path, stop, err := Serve(b, events, log)
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
