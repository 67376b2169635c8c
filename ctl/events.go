package ctl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strconv"

	"vswitch/internal/api"
)

// Events yields the remembered events after the one numbered since (0: all), and with follow each new one as it happens.
//
// The sequence ends after the last remembered event; with follow it only ends with an error as its last element: that of ctx, one that
// matches ErrUnreachable when the daemon stopped, or one of code api.CodeUnavailable when the caller was too slow and the daemon
// dropped it (the event before it is of type api.EventLagged). To go on, call Events again with the Seq of the last event.
func (c *Client) Events(ctx context.Context, since uint64, follow bool) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		query := url.Values{"follow": {strconv.FormatBool(follow)}}
		if since > 0 {
			query.Set("since", strconv.FormatUint(since, 10))
		}
		answer, err := c.send(ctx, "GET", "/v1/events", query, nil)
		if err != nil {
			yield(api.Event{}, err)
			return
		}
		defer answer.Body.Close()
		in := bufio.NewReader(answer.Body)
		for {
			e, err := readEvent(in)
			var bad *api.Error
			switch {
			case errors.As(err, &bad):
				yield(api.Event{}, err)
				return
			case errors.Is(err, io.EOF) && !follow:
				return
			case errors.Is(err, io.EOF) && ctx.Err() == nil:
				yield(api.Event{}, fmt.Errorf("%w: it ended the stream of events on %s: it stopped", ErrUnreachable, c.socket))
				return
			case err != nil:
				yield(api.Event{}, c.broken(ctx, err))
				return
			}
			if !yield(e, nil) {
				return
			}
			if e.Type == api.EventLagged {
				yield(api.Event{}, api.Errorf(api.CodeUnavailable, "events were lost: the daemon dropped us for reading too slowly"))
				return
			}
		}
	}
}

// readEvent reads lines up to the next event's data. All else in the stream repeats what the data says.
func readEvent(in *bufio.Reader) (e api.Event, err error) {
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return e, err
		}
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return e, api.Errorf(api.CodeInternal, "an event is not understood: %v; do the daemon's version and ours match?", err)
		}
		return e, nil
	}
}
