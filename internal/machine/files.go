package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// OpenFiles returns the limit of open files (RLIMIT_NOFILE). Go's runtime raises it to the hard one at the start.
func OpenFiles() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	return int(min(l.Cur, 1<<30)), nil // fs.nr_open is no larger
}

// FilesInUse returns how many files the process has open, at least: the number that the next one will get. All lower ones are
// taken. It takes a microsecond, however many there are. At the limit it returns the limit.
func FilesInUse() (int, error) {
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
	if err == unix.EMFILE {
		return OpenFiles()
	}
	if err != nil {
		return 0, fmt.Errorf("look for a free file descriptor: %w", err)
	}
	unix.Close(fd)
	return fd, nil
}
