package uplink

import (
	"errors"
	"fmt"

	"vswitch/internal/link"
)

// Changes are what an uplink changed of the host and has to change back, even when the process that did it was killed: hence they are
// written down before they are made.
type Changes struct {
	Reserved   string `json:"reserved,omitempty"`   // ports added to net.ipv4.ip_local_reserved_ports, as "61000-61999,62000"
	LRO        string `json:"lro,omitempty"`        // the interface whose large receive offload was switched off
	Feature    string `json:"feature,omitempty"`    // what ethtool calls that
	Classifier string `json:"classifier,omitempty"` // the interface that got a classifier, which doesn't end with its process
	Index      int    `json:"index,omitempty"`      // that interface's number, which it keeps under another name, but not over a boot
	Clsact     bool   `json:"clsact,omitempty"`     // whether it got a clsact qdisc to hold it
}

// Undo changes back what an uplink that is no more has changed. What is as it was before is no error.
func Undo(host *link.Namespace, c Changes) error {
	return errors.Join(c.undoInterface(host), release(host, c.Reserved))
}

func (c Changes) undoInterface(host *link.Namespace) error {
	var errs []error
	if c.LRO != "" {
		if _, err := link.Lookup(host, c.LRO); err == nil {
			errs = append(errs, link.SetFeature(host, c.LRO, c.Feature, true))
		}
	}
	if c.Classifier != "" {
		if s, err := link.Lookup(host, c.Classifier); err == nil {
			errs = append(errs, link.Ingress{Index: s.Index, FD: -1}.Detach(host, c.Clsact))
		}
	}
	return errors.Join(errs...)
}

// changer changes what an uplink changes of the host. It is not safe for concurrent use.
type changer struct {
	host    *link.Namespace
	write   func(Changes) error // writes down what is about to be changed; nil: nobody does
	lro     string              // the feature of interfaces that is switched off; link.LRO
	changes Changes
}

// record writes c down, and only then takes it for what is changed.
func (u *changer) record(c Changes) error {
	if c == u.changes {
		return nil
	}
	if u.write != nil {
		if err := u.write(c); err != nil {
			return fmt.Errorf("write down what an uplink changes of the host: %w", err)
		}
	}
	u.changes = c
	return nil
}

// move changes back what was changed of another interface than the one of that name, and makes this one ready.
func (u *changer) move(name string) error {
	for _, changed := range []string{u.changes.LRO, u.changes.Classifier} {
		if changed == "" || changed == name {
			continue
		}
		if err := u.undoInterface(); err != nil {
			return err
		}
	}
	return u.stopLRO(name)
}

// stopLRO switches large receive offload off where it is on.
func (u *changer) stopLRO(name string) error {
	on, err := link.Feature(u.host, name, u.lro)
	if err != nil || !on {
		return err
	}
	c := u.changes
	c.LRO, c.Feature = name, u.lro
	if err := u.record(c); err != nil {
		return err
	}
	return link.SetFeature(u.host, name, u.lro, false)
}

func (u *changer) recordClassifier(s link.State) error {
	has, err := link.HasClsact(u.host, s.Index)
	if err != nil {
		return err
	}
	c := u.changes
	c.Clsact = !has || c.Classifier == s.Name && c.Clsact // or it is what an earlier process left
	c.Classifier, c.Index = s.Name, s.Index
	return u.record(c)
}

// rename keeps the record true when the interface was renamed.
func (u *changer) rename(name string) error {
	c := u.changes
	if c.LRO != "" {
		c.LRO = name
	}
	if c.Classifier != "" {
		c.Classifier = name
	}
	return u.record(c)
}

// undoInterface is what is to be changed back when the uplink leaves its interface.
func (u *changer) undoInterface() error {
	if err := u.changes.undoInterface(u.host); err != nil {
		return err
	}
	return u.record(Changes{Reserved: u.changes.Reserved})
}

// undo is what is to be changed back at the end.
func (u *changer) undo() error {
	if err := release(u.host, u.changes.Reserved); err != nil {
		return err
	}
	c := u.changes
	c.Reserved = ""
	return u.record(c)
}
