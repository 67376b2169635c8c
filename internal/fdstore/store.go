package fdstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
)

// Store keeps open file descriptors, each under a name, while the daemon that opened them is away.
//
// Names have 1 to 255 printable ASCII characters other than ':' (systemd's rule, the same in every store).
//
// A store holds no duplicates in this process, since with thousands of ports these would halve the limit of open
// files. It remembers the number of each fd that was Put or Taken, so that it can store it again after the keeper was
// killed. Hence the one rule for callers: keep the fd open until its name is deleted or put anew.
//
// All methods may be called concurrently. They may block for some seconds when the other side does not answer.
type Store interface {
	// Put stores a duplicate of fd, in place of an older one of that name; the caller keeps its own fd.
	// On an error the name may hold the older fd or nothing; putting again is safe.
	Put(name string, fd int) error
	// PutAll is Put for many fds by name, at a fraction of the time. On an error any of them may be stored or not.
	PutAll(fds map[string]int) error
	// Delete removes the fds of these names; it is not an error when there is none of a name.
	Delete(names ...string) error
	// Take returns duplicates of everything held now, with close-on-exec set. The caller owns them (see the rule
	// above); the store goes on holding its own until Delete. On an error it returns none.
	Take() (map[string]int, error)
	// Check makes sure that a later daemon would find the store, as far as that can change: a keeper whose socket was deleted
	// is replaced, soon after.
	Check()
	// Kind says which store this is: "systemd", "keeper" or "none".
	Kind() string
	// Close drops the connection and waits for what the store runs in this process; what is stored stays stored.
	// It is idempotent; calls under way and later ones return ErrClosed.
	Close() error
}

// ErrClosed is returned by the methods of a Store after its Close.
var ErrClosed = errors.New("fd store is closed")

// Config says which store to open.
type Config struct {
	Mode   string       // "auto" (also ""), "systemd", "keeper" or "none"
	Dir    string       // run directory, for the keeper's socket and its lock; made when missing
	Exe    string       // absolute path of the program to start as `EXE keeper --socket PATH`; "" is this program
	Logger *slog.Logger // nil discards

	// Replaced is told when the keeper went away and a new one has been given all fds, or why it could not; nil is not. It must
	// not call the store.
	Replaced func(err error)
}

// Open opens the store that cfg asks for.
//
// Mode auto takes systemd's store when NOTIFY_SOCKET is set and either FDSTORE says that the unit may store fds
// (systemd >= 254 sets it) or VSWITCH_FDSTORE=systemd does (for older ones); else the keeper. With systemd's store the
// fds passed by LISTEN_FDS become the store's and the LISTEN_ variables are unset, so it is opened once a process. The
// keeper is started at the first Put, not here.
func Open(cfg Config) (Store, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	switch cfg.Mode {
	case "", "auto":
		if systemdStores() {
			return openSystemd(cfg.Logger)
		}
		if os.Getenv("NOTIFY_SOCKET") != "" {
			cfg.Logger.Warn("systemd may kill the keeper when it restarts the unit: set FileDescriptorStoreMax= in the" +
				" unit, and Environment=VSWITCH_FDSTORE=systemd when systemd is older than 254")
		}
		return openKeeper(cfg)
	case "systemd":
		return openSystemd(cfg.Logger)
	case "keeper":
		return openKeeper(cfg)
	case "none":
		return none{}, nil
	}
	return nil, fmt.Errorf("open fd store: mode %q is unknown: use auto, systemd, keeper or none", cfg.Mode)
}

// systemdStores says whether systemd has offered its fd store to this process.
func systemdStores() bool {
	limit, _ := strconv.Atoi(os.Getenv("FDSTORE"))
	return os.Getenv("NOTIFY_SOCKET") != "" && (limit > 0 || os.Getenv("VSWITCH_FDSTORE") == "systemd")
}

// maxName is systemd's FDNAME_MAX.
const maxName = 255

// checkName returns an error that states the rule when name is not a valid one.
func checkName(name string) error {
	ok := len(name) >= 1 && len(name) <= maxName
	for i := 0; ok && i < len(name); i++ {
		ok = name[i] >= ' ' && name[i] < 0x7f && name[i] != ':'
	}
	if !ok {
		return fmt.Errorf("bad fd name %.300q: use 1 to %d printable ASCII characters other than ':'", name, maxName)
	}
	return nil
}

func checkNames(names []string) error {
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// none is the Store that keeps nothing.
type none struct{}

var _ Store = none{}

func (none) Put(name string, _ int) error { return checkName(name) }

func (none) PutAll(fds map[string]int) error {
	for name := range fds {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

func (none) Delete(names ...string) error  { return checkNames(names) }
func (none) Take() (map[string]int, error) { return map[string]int{}, nil }
func (none) Check()                        {}
func (none) Kind() string                  { return "none" }
func (none) Close() error                  { return nil }
