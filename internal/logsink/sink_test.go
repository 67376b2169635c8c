package logsink_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"vswitch/internal/logsink"
)

func tell(to io.Writer, lost uint64) { fmt.Fprintf(to, "lost %d\n", lost) }

// A reader that stalls costs lines, not time; when it goes on, it hears how many.
func TestStalledReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := logsink.New(w, tell)
	line := []byte(strings.Repeat("x", 999) + "\n")
	const lines = 2000 // far more than pipe and queue hold
	done := make(chan error, 1)
	go func() {
		for range lines {
			if _, err := s.Write(line); err != nil {
				done <- err
				return
			}
		}
		s.Close(10 * time.Millisecond)
		done <- nil
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("writing and closing wait for the reader")
	}
	if s.Lost() == 0 {
		t.Error("nothing was lost")
	}

	if err := r.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, told := 0, 0
	in := bufio.NewScanner(r)
	for got+told < lines && in.Scan() {
		n := 0
		if in.Text()+"\n" == string(line) {
			got++
		} else if _, err := fmt.Sscanf(in.Text(), "lost %d", &n); err != nil {
			t.Fatalf("a line is torn: %q", in.Text())
		}
		told += n
	}
	if got+told != lines || uint64(told) != s.Lost() {
		t.Errorf("%d lines came, %d are told as lost; want %d in all, and %d", got, told, lines, s.Lost())
	}
}

// A reader that went away is no error of ours.
func TestReaderGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	s := logsink.New(w, tell)
	for range 3 {
		s.Write([]byte("line\n"))
	}
	s.Close(30 * time.Second)
	if s.Lost() != 3 {
		t.Errorf("%d lines are lost, want 3", s.Lost())
	}
}

func TestAllIsWritten(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := logsink.New(w, tell)
	want := ""
	for i := range 100 {
		line := fmt.Sprintln("line", i)
		want += line
		s.Write([]byte(line))
	}
	s.Close(30 * time.Second)
	w.Close()
	got, err := io.ReadAll(r)
	if err != nil || string(got) != want || s.Lost() != 0 {
		t.Errorf("got %q, %v, %d lost", got, err, s.Lost())
	}
}
