package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"vswitch/internal/logsink"
)

// openLog makes the way to stderr, which never blocks: see logsink.
func openLog(o *options) *logsink.Sink {
	return logsink.New(os.Stderr, func(to io.Writer, lost uint64) {
		if log, err := logger(o, to); err == nil {
			log.Warn("lines of the log are lost: who reads it stood still", "lines", lost)
		}
	})
}

func logger(o *options, to io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", o.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(to, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(to, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", o.logFormat)
}
