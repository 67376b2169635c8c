package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
)

// The buckets of the file. Keys are ids; in damaged, the bucket and the id.
var (
	bucketMeta     = []byte("meta")
	bucketNetworks = []byte("networks")
	bucketPorts    = []byte("ports")
	bucketRoutes   = []byte("routes")  // made with the first route: files of older daemons have none
	bucketUplinks  = []byte("uplinks") // likewise
	bucketChanges  = []byte("changes") // likewise; of the host, by uplinks
	bucketRules    = []byte("rules")   // likewise
	bucketSecrets  = []byte("secrets") // likewise
	bucketDamaged  = []byte("damaged")
	keyVersion     = []byte("version") // in meta: schema, decimal
)

// create makes a new state file under a temporary name and moves it into place when it is whole. Thus a state file that is
// empty or torn has been damaged later, and is never taken for a new one.
func create(path string) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("remove", temp, err)
	}
	db, err := bbolt.Open(temp, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return explain("create", temp, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketMeta, bucketNetworks, bucketPorts, bucketDamaged} {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyVersion, strconv.AppendInt(nil, schema, 10))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return explain("write", temp, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return explain("create", path, err)
	}
	return syncFile(filepath.Dir(path))
}

// syncFile has what was written to a file or directory reach the disk.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return explain("open", path, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return explain("write", path, err)
	}
	return nil
}

// open opens the state file, and refuses it when it is not as it was written, as far as can be told, or of a newer daemon.
func open(path string) (*bbolt.DB, error) {
	if err := verifyFile(path); err != nil {
		return nil, err
	}
	var db *bbolt.DB
	err := guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
		return err
	})
	if err != nil {
		return nil, explain("open", path, err)
	}
	if err := guard(func() error { return db.View(checkContents) }); err != nil {
		db.Close()
		if e := new(api.Error); errors.As(err, &e) {
			return nil, err
		}
		return nil, damaged(path, err)
	}
	return db, nil
}

var errNoFile = errors.New("it is no file")

// verifyFile holds bbolt's lock meanwhile.
func verifyFile(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return explain("open", path, errNoFile) // a device could be read without end
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return explain("open", path, err)
	}
	defer f.Close()
	switch err := flock(f); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return api.Errorf(api.CodeConflict, "state file %s is locked by another program: end it first", path)
	case err != nil:
		return explain("lock", path, err)
	}
	file, err := io.ReadAll(f)
	if err != nil {
		return explain("read", path, err)
	}
	if err := verify(file); err != nil {
		return damaged(path, err)
	}
	return nil
}

// checkContents refuses a file that lacks one of our buckets or is of a newer daemon.
func checkContents(tx *bbolt.Tx) error {
	for _, b := range [][]byte{bucketMeta, bucketNetworks, bucketPorts, bucketDamaged} {
		if tx.Bucket(b) == nil {
			return fmt.Errorf("it has no part %q", b)
		}
	}
	v, err := strconv.Atoi(string(tx.Bucket(bucketMeta).Get(keyVersion)))
	switch {
	case err != nil || v < 1:
		return errors.New("it has no version")
	case v > schema:
		return api.Errorf(api.CodeRefused, "state file %s is of a newer vswitchd (version %d; this one knows %d): start that one, or use another --state-dir", tx.DB().Path(), v, schema)
	}
	return nil
}

// damaged says what to do about a state file that can not be read.
func damaged(path string, err error) error {
	return api.Errorf(api.CodeRefused, "state file %s is damaged (%v): put back a copy of it, or move it away to start without networks and ports", path, err)
}

// guard calls f, which reads the file through memory that is mapped to it, and makes an error of a fault there: the disk
// failed, or somebody cut the file off. bbolt's own panics, about a file that someone changed under it, are errors as well.
func guard(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if v := recover(); v != nil {
			err = fmt.Errorf("the file can not be read: %v", v)
		}
	}()
	return f()
}

// explain says what to do about an error of the file system.
func explain(what, path string, err error) error {
	do := ""
	switch {
	case is(err, unix.ENOSPC), is(err, unix.EDQUOT):
		do = ": the file system is full; free some space or inodes (df -h, df -i)"
	case is(err, unix.EROFS):
		do = ": the file system is read-only; use another --state-dir, or make it writable"
	case is(err, unix.EIO):
		do = ": the disk fails; look at the kernel's log, and use another --state-dir"
	case errors.Is(err, fs.ErrPermission):
		do = ": run vswitchd as root, or use another --state-dir"
	case is(err, unix.ENOTDIR), is(err, unix.EISDIR), errors.Is(err, errNoFile):
		do = ": something else is in its place; use another --state-dir"
	}
	return api.Errorf(api.CodeRefused, "%s %s: %v%s", what, path, cause(err), do)
}

// is tells whether err is of that kind. bbolt keeps the text of some of its causes only.
func is(err error, kind unix.Errno) bool {
	return errors.Is(err, kind) || err != nil && strings.HasSuffix(err.Error(), ": "+kind.Error())
}

// cause is err without the paths that the os package adds.
func cause(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}
