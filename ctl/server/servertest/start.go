package servertest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"vswitch/ctl/server"
)

// Start serves b on a socket in a folder of the test and returns the socket's path. The server stops with the test, or when stop is
// called, which returns after the last request and the error of Serve.
func Start(t testing.TB, b server.Backend, events *server.Events, log *slog.Logger) (path string, stop func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "run", "s")
	l, err := server.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.New(b, events, log).Serve(ctx, l) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return path, stop
}
