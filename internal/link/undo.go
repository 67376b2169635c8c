package link

import "errors"

// undo collects how to give back what was acquired.
type undo []func() error

func (u *undo) add(f func() error) { *u = append(*u, f) }

// run gives everything back, the last first. It goes on after errors and runs once.
func (u *undo) run() error {
	steps := *u
	*u = nil
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		errs = append(errs, steps[i]())
	}
	return errors.Join(errs...)
}

// fail runs u because of err, and tells of both if that fails too.
func (u *undo) fail(err error) error {
	if undone := u.run(); undone != nil {
		return errors.Join(err, undone)
	}
	return err
}
