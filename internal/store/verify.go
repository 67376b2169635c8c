package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
)

// verify checks that a state file is whole before bbolt maps it: bbolt trusts what it reads, and would crash, loop or eat all
// memory where a page is torn. It follows every page once, and looks at order and place of all keys. What stands in the
// values is not its affair: records have a checksum of their own.
//
//	page      id 8 | flags 2 | count 2 | overflow 4 | elements ... keys and values      in host byte order
//	meta      magic 4 | version 4 | page size 4 | flags 4 | root page 8 | 8 | freelist page 8 | pages 8 | txid 8 | FNV-1a of all 8
//	branch    element: pos 4 | key size 4 | page 8                                      pos counts from the element
//	leaf      element: flags 4 | pos 4 | key size 4 | value size 4
//	bucket    value: root page 8 | 8 | when the root page is 0, a leaf page
func verify(file []byte) error {
	m, err := findMeta(file)
	if err != nil {
		return err
	}
	if uint64(len(file)) < m.pages*uint64(m.pageSize) {
		return fmt.Errorf("it is cut off: %d bytes of %d are left", len(file), m.pages*uint64(m.pageSize))
	}
	v := verifier{file: file, meta: m, seen: make([]bool, m.pages)}
	if err := v.tree(m.root, nil, nil, true); err != nil {
		return err
	}
	if err := v.freelist(); err != nil {
		return err
	}
	if i := slices.Index(v.seen[2:], false); i >= 0 {
		return fmt.Errorf("page %d has no use and isn't free", i+2)
	}
	return nil
}

const (
	pageHeader  = 16
	elementSize = 16
	metaSize    = 64
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
)

var host = binary.NativeEndian

type meta struct {
	pageSize              int
	root, freelist, pages uint64
	txid                  uint64
}

// findMeta returns the newer of the two meta pages, which take turns, that is whole.
func findMeta(file []byte) (best meta, err error) {
	if len(file) == 0 {
		return best, errors.New("it is empty")
	}
	err = errors.New("it has no head")
	for at := 0; at+pageHeader+metaSize <= len(file) && at <= 1<<24; at = max(1024, 2*at) {
		b := file[at+pageHeader:][:metaSize]
		h := fnv.New64a()
		h.Write(b[:metaSize-8])
		m := meta{int(host.Uint32(b[8:])), host.Uint64(b[16:]), host.Uint64(b[32:]), host.Uint64(b[40:]), host.Uint64(b[48:])}
		whole := host.Uint32(b) == boltMagic && host.Uint32(b[4:]) == boltVersion && host.Uint64(b[56:]) == h.Sum64()
		if whole && (at == 0 || at == m.pageSize) && m.pageSize >= 1024 && m.pageSize <= 1<<24 && m.pages <= 1<<32 && m.txid >= best.txid {
			best, err = m, nil
		}
	}
	return best, err
}

type verifier struct {
	file []byte
	meta meta
	seen []bool // by page
}

// page returns the page with what overflows from it, and marks it as seen.
func (v *verifier) page(id uint64) ([]byte, error) {
	if id < 2 || id >= v.meta.pages {
		return nil, fmt.Errorf("page %d does not exist", id)
	}
	b := v.file[id*uint64(v.meta.pageSize):]
	end := id + 1 + uint64(host.Uint32(b[12:]))
	if host.Uint64(b) != id || end > v.meta.pages {
		return nil, fmt.Errorf("page %d is torn", id)
	}
	for i := id; i < end; i++ {
		if v.seen[i] {
			return nil, fmt.Errorf("page %d has two uses", i)
		}
		v.seen[i] = true
	}
	return b[:(end-id)*uint64(v.meta.pageSize)], nil
}

// tree verifies the pages from id down, whose first key is low and whose others are less than high; nil is no bound. The
// file's root holds buckets only, and they hold none.
func (v *verifier) tree(id uint64, low, high []byte, root bool) error {
	p, err := v.page(id)
	if err != nil {
		return err
	}
	if host.Uint16(p[8:]) != flagBranch {
		return v.leaf(p, low, high, root)
	}
	count := int(host.Uint16(p[10:]))
	keys := make([][]byte, count, count+1)
	end := pageHeader + count*elementSize // of what was looked at
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(p) {
			return fmt.Errorf("page %d is torn", id)
		}
		if keys[i], err = part(p, at, host.Uint32(p[at:]), host.Uint32(p[at+4:]), &end); err != nil {
			return err
		}
	}
	if err := inOrder(keys, low, high); err != nil {
		return err
	}
	keys = append(keys, high)
	for i := range count {
		child := host.Uint64(p[pageHeader+i*elementSize+8:])
		if err := v.tree(child, keys[i], keys[i+1], root); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) leaf(p, low, high []byte, root bool) error {
	if len(p) < pageHeader || host.Uint16(p[8:]) != flagLeaf {
		return errors.New("a page is of the wrong kind")
	}
	var keys [][]byte
	count := int(host.Uint16(p[10:]))
	end := pageHeader + count*elementSize // of what was looked at
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(p) {
			return errors.New("a page is torn")
		}
		pos, ksize, vsize := host.Uint32(p[at+4:]), host.Uint32(p[at+8:]), host.Uint32(p[at+12:])
		key, err := part(p, at, pos, ksize, &end)
		if err != nil {
			return err
		}
		value, err := part(p, at+int(pos)+int(ksize), 0, vsize, &end)
		if err != nil {
			return err
		}
		keys = append(keys, key)
		isBucket := host.Uint32(p[at:]) == 1
		if isBucket != root || isBucket && len(value) < pageHeader {
			return fmt.Errorf("entry %.70q is of the wrong kind", key)
		}
		if isBucket {
			if err := v.bucket(value); err != nil {
				return err
			}
		}
	}
	return inOrder(keys, low, high)
}

func (v *verifier) bucket(value []byte) error {
	if id := host.Uint64(value); id != 0 {
		return v.tree(id, nil, nil, false)
	}
	return v.leaf(value[16:], nil, nil, false)
}

// part returns size bytes of p, pos behind at. Parts lie behind each other without a gap: this one begins where the last ended.
func part(p []byte, at int, pos, size uint32, end *int) ([]byte, error) {
	from := at + int(pos)
	if from != *end || from+int(size) > len(p) {
		return nil, errors.New("an entry is not in its place")
	}
	*end += int(size)
	return p[from:*end], nil
}

func inOrder(keys [][]byte, low, high []byte) error {
	for i, k := range keys {
		switch {
		case i == 0 && low != nil && !bytes.Equal(k, low),
			i > 0 && bytes.Compare(k, keys[i-1]) <= 0,
			high != nil && bytes.Compare(k, high) >= 0:
			return fmt.Errorf("entry %.70q is out of order", k)
		}
	}
	return nil
}

// freelist verifies the list of free pages: what is free is not in use.
func (v *verifier) freelist() error {
	p, err := v.page(v.meta.freelist)
	if err != nil {
		return err
	}
	count, ids := uint64(host.Uint16(p[10:])), p[pageHeader:]
	if count == 0xffff { // the count did not fit, and stands before the ids
		count, ids = host.Uint64(ids), ids[8:]
	}
	if host.Uint16(p[8:]) != flagFreelist || count > uint64(len(ids)/8) {
		return errors.New("the list of free pages is torn")
	}
	for i := range count {
		id := host.Uint64(ids[8*i:])
		if id < 2 || id >= v.meta.pages || v.seen[id] {
			return fmt.Errorf("page %d is free and has a use", id)
		}
		v.seen[id] = true
	}
	return nil
}
