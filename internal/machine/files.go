package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// OpenFiles returns the limit of open files (RLIMIT_NOFILE). Go's runtime raises it at the start, to the hard one or one less.
func OpenFiles() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	return int(min(l.Cur, 1<<30)), nil // fs.nr_open is no larger
}
