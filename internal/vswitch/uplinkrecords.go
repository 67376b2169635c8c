package vswitch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/store"
	"vswitch/internal/uplink"
)

// loadUplinks brings back the uplinks of the stored intent, by what was kept of them, and undoes what others left.
func (s *Switch) loadUplinks() error {
	list, err := s.store.Uplinks()
	if err != nil {
		return err
	}
	changes, err := s.storedChanges()
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b api.Uplink) int { return strings.Compare(a.Name, b.Name) })
	for _, u := range list {
		held := s.heldUplinks[u.ID]
		delete(s.heldUplinks, u.ID)
		s.mu.Lock()
		s.uplinks[u.Name] = u
		s.mu.Unlock()
		if err := s.openUplink(u, kept{true, held, changes[u.ID]}); err != nil {
			s.log.Error("share an uplink's interface", "uplink", u.Name, "err", err)
			s.events.Publish("uplink.down", u.Name, err.Error())
			s.putUplink(&liveUplink{Uplink: u, err: err.Error()})
		}
		delete(changes, u.ID)
	}
	s.settleUplinks()
	s.discardUplinks(changes)
	return nil
}

// teardownUplinks removes the records of all uplinks, and what they left.
func (s *Switch) teardownUplinks() (n int, err error) {
	list, err := s.store.Uplinks()
	if err != nil {
		return 0, err
	}
	for _, u := range list {
		if err := s.store.Update(func(tx *store.Tx) error { return tx.DeleteUplink(u.ID) }); err != nil {
			return 0, err
		}
	}
	changes, err := s.storedChanges()
	s.discardUplinks(changes)
	return len(list), err
}

// discardUplinks lets go of what was kept of uplinks that are no more, and undoes what they changed of the host.
func (s *Switch) discardUplinks(changes map[string]uplink.Changes) {
	for id, held := range s.heldUplinks {
		for what, fd := range held {
			s.dropHeld(uplink.FDName(id, what), fd)
		}
	}
	s.heldUplinks = nil
	for id := range changes {
		s.undoHostChanges(id)
	}
}

// storedChanges returns what uplinks changed of the host, by their ids.
func (s *Switch) storedChanges() (map[string]uplink.Changes, error) {
	records, err := s.store.HostChanges()
	if err != nil {
		return nil, err
	}
	all := make(map[string]uplink.Changes)
	for _, r := range records {
		var c uplink.Changes
		if err := json.Unmarshal(r.Changes, &c); err != nil {
			return nil, fmt.Errorf("what uplink %s changed of the host: %w", r.ID, err)
		}
		all[r.ID] = c
	}
	return all, nil
}

// undoHostChanges changes back what an uplink that is no more has changed, or leaves that to the next start.
func (s *Switch) undoHostChanges(id string) {
	all, err := s.storedChanges()
	if c, ok := all[id]; ok && err == nil {
		if err = uplink.Undo(s.host, c); err == nil {
			err = s.hostChanges(id)(uplink.Changes{})
		}
	}
	if err != nil {
		s.log.Error("change back what an uplink changed of the host; the next start tries again", "id", id, "err", err)
	}
}

// hostChanges returns what writes down what an uplink changes of the host.
func (s *Switch) hostChanges(id string) func(uplink.Changes) error {
	return func(c uplink.Changes) error {
		return s.store.Update(func(tx *store.Tx) error {
			if c == (uplink.Changes{}) {
				return tx.DeleteHostChanges(id)
			}
			b, err := json.Marshal(c)
			if err != nil {
				return err
			}
			return tx.PutHostChanges(store.HostChanges{ID: id, Changes: b})
		})
	}
}
