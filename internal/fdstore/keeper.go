package fdstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// KeeperGrace is how long a keeper that holds nothing waits for a client before it ends.
const KeeperGrace = 5 * time.Second

// sendTimeout bounds the wait for a client that does not read its answer; the client is dropped then.
const sendTimeout = 2 * time.Second

// keeper is the process that holds the fds while the daemon is away. It serves one request at a time.
type keeper struct {
	listener *net.UnixListener
	path     string
	inode    uint64 // of the socket at path

	mu      sync.Mutex
	fds     map[string]int             // guarded by mu
	clients map[*net.UnixConn]struct{} // guarded by mu
	idle    time.Time                  // guarded by mu; since when there has been no client
	closing bool                       // guarded by mu
}

// RunKeeper is the body of `vswitchd keeper`: it listens on socketPath and holds the fds that clients put there, until
// ctx is done, or until no client has been connected for the grace period and it holds no fds or nobody could reach
// them, because its socket was removed. It returns nil then, and closes what it holds.
//
// It fails when another keeper serves that path (a lock beside the socket says so). A stale socket is replaced. Only
// processes of the same user and of root are served. The limit of open files is the hard one: Go's runtime raises it.
// RunKeeper blocks and expects to have the process for itself.
func RunKeeper(ctx context.Context, socketPath string, grace time.Duration) error {
	// Without it, tools would call us "exe"; with the daemon's own name, `pkill vswitchd` would end us together.
	_ = os.WriteFile("/proc/self/comm", []byte("vswitch-keeper"), 0)
	lock, err := lockFile(socketPath + ".lock")
	if err != nil {
		return fmt.Errorf("run keeper: %w", err)
	}
	defer func() { _ = lock.Close() }() // the file stays: removing a lock file would let two keepers hold "it"
	listener, inode, err := listen(socketPath)
	if err != nil {
		return fmt.Errorf("run keeper: %w", err)
	}
	k := &keeper{listener: listener, path: socketPath, inode: inode, idle: time.Now(),
		fds: map[string]int{}, clients: map[*net.UnixConn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() { k.accept(&wg) })
	k.waitUnneeded(ctx, grace)
	k.shutDown()
	wg.Wait()
	for _, fd := range k.fds {
		_ = unix.Close(fd)
	}
	return nil
}

// lockFile opens path and locks it until it is closed; a second locker fails.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another keeper has locked %s: use that one, or end it first", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// listen makes the socket under another name and renames it, so that it is never seen with a wrong mode, and replaces
// one that a killed keeper left.
func listen(path string) (*net.UnixListener, uint64, error) {
	born := path + ".new"
	if err := os.Remove(born); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, 0, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: born, Net: "unixpacket"})
	if err != nil {
		return nil, 0, err
	}
	l.SetUnlinkOnClose(false)
	var st unix.Stat_t
	err = errors.Join(os.Chmod(born, 0o600), unix.Stat(born, &st), os.Rename(born, path))
	if err != nil {
		_ = l.Close()
		_ = os.Remove(born)
		return nil, 0, fmt.Errorf("make socket %s: %w", path, err)
	}
	return l, st.Ino, nil
}

// waitUnneeded returns when ctx is done or nobody needs the keeper any more.
func (k *keeper) waitUnneeded(ctx context.Context, grace time.Duration) {
	tick := time.NewTicker(max(grace/2, time.Millisecond))
	defer tick.Stop()
	for !k.unneeded(grace) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// unneeded decides that the keeper ends; a client that connects later is turned away and starts a new one.
func (k *keeper) unneeded(grace time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.clients) == 0 && time.Since(k.idle) >= grace && (len(k.fds) == 0 || !k.reachable()) {
		k.closing = true
	}
	return k.closing
}

// reachable says whether our socket is still at its path. Where the run directory was removed, no daemon will ever come
// for the fds, and devices that we hold would stay half alive.
func (k *keeper) reachable() bool {
	var st unix.Stat_t
	err := unix.Stat(k.path, &st)
	return err == nil && st.Ino == k.inode || err != nil && !errors.Is(err, unix.ENOENT)
}

// shutDown ends accept and every serve.
func (k *keeper) shutDown() {
	if k.reachable() {
		_ = os.Remove(k.path) // before Close: who finds the path finds us
	}
	_ = k.listener.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closing = true
	for conn := range k.clients {
		_ = conn.Close()
	}
}

// accept serves each client on a goroutine of wg until the listener is closed.
func (k *keeper) accept(wg *sync.WaitGroup) {
	for {
		conn, err := k.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no fd left: one may be deleted soon
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if trusted(conn) != nil || !k.enter(conn) {
			_ = conn.Close()
			continue
		}
		wg.Go(func() {
			defer k.leave(conn)
			k.serve(conn)
		})
	}
}

func (k *keeper) enter(conn *net.UnixConn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closing {
		k.clients[conn] = struct{}{}
	}
	return !k.closing
}

func (k *keeper) leave(conn *net.UnixConn) {
	_ = conn.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.clients, conn)
	k.idle = time.Now()
}

// serve answers the requests of one client until it goes or stops reading.
func (k *keeper) serve(conn *net.UnixConn) {
	r := newReceiver(conn)
	for {
		m, err := r.next()
		if err != nil && !errors.Is(err, errBadMessage) {
			return
		}
		if err == nil {
			err = k.handle(conn, m)
		}
		reply := message{op: opOK}
		if err != nil {
			reply = message{op: opRefused, text: err.Error()}
		}
		if err := k.reply(conn, reply); err != nil {
			return
		}
	}
}

// reply sends m. An fd in it must not be closed meanwhile.
func (k *keeper) reply(conn *net.UnixConn, m message) error {
	if err := conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return send(conn, m)
}

// handle carries out a request; its fds become the keeper's.
func (k *keeper) handle(conn *net.UnixConn, m message) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m.op != opPut {
		closeAll(m.fds)
	}
	switch m.op {
	case opPut:
		for i, name := range m.names {
			k.deleteLocked(name)
			k.fds[name] = m.fds[i]
		}
	case opDelete:
		for _, name := range m.names {
			k.deleteLocked(name)
		}
	case opTake:
		return k.sendAllLocked(conn)
	default:
		return fmt.Errorf("%w: request %d is unknown", errBadMessage, m.op)
	}
	return nil
}

func (k *keeper) deleteLocked(name string) {
	if fd, ok := k.fds[name]; ok {
		_ = unix.Close(fd)
		delete(k.fds, name)
	}
}

// sendAllLocked sends every fd, in messages of as many as the kernel takes. It holds the lock while it does, so that no
// fd is closed, and its number used again, before it was sent.
func (k *keeper) sendAllLocked(conn *net.UnixConn) error {
	names := make([]string, 0, len(k.fds))
	for name := range k.fds {
		names = append(names, name)
	}
	for batch := range slices.Chunk(names, maxFDs) {
		m := message{op: opFDs, names: batch}
		for _, name := range batch {
			m.fds = append(m.fds, k.fds[name])
		}
		if err := k.reply(conn, m); err != nil {
			return fmt.Errorf("send %d of %d fds: %w", len(batch), len(names), err)
		}
	}
	return nil
}
