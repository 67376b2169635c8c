package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
)

// lockTimeout is how long a daemon waits for another one that is just ending.
const lockTimeout = time.Second

// lock takes the pid file at path, which says who uses the directory that it is in. The lock ends with the file's closing or
// the process; the file stays.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explain("open", path, err)
	}
	err = flock(f)
	if err == nil {
		err = writePID(f)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = inUse(f)
		f.Close()
		return nil, err
	case err != nil:
		f.Close()
		return nil, explain("lock", path, err)
	}
	return f, nil
}

// flock locks f, waiting for lockTimeout; the error is then unix.EWOULDBLOCK.
func flock(f *os.File) (err error) {
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockTimeout / 50) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR && (err != unix.EWOULDBLOCK || time.Now().After(deadline)) {
			return err
		}
	}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	return err
}

// inUse says who holds the lock of f.
func inUse(f *os.File) error {
	who := "another vswitchd"
	b, _ := io.ReadAll(io.LimitReader(f, 32))
	if pid, err := strconv.Atoi(string(bytes.TrimSpace(b))); err == nil {
		who = fmt.Sprintf("process %d", pid)
	}
	err := api.Errorf(api.CodeConflict, "the state in %s is in use by %s: stop it first, or use another --state-dir", filepath.Dir(f.Name()), who)
	err.Object = who
	return err
}
