// Package fdstore keeps fds over a crash, restart or upgrade (systemd's store, else our keeper process).
package fdstore
