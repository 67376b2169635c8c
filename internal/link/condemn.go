package link

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Condemn makes the TAP of fd vanish, wherever it is, as soon as the last fd that is attached to it is closed.
func Condemn(fd int) error {
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 0); err != nil {
		return fmt.Errorf("make TAP temporary: %w", err)
	}
	return nil
}
