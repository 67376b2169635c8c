package link

import "vswitch/internal/bpf"

// ReplaceClsact attaches the drop program by tcx in place of the classifier.
func (v *Veth) ReplaceClsact(private *Namespace) error {
	h, err := private.netlink()
	if err == nil {
		err = h.QdiscDel(clsact(v.Index))
	}
	if err != nil {
		return err
	}
	v.Drop = DropTCX
	return private.Do(func() (err error) {
		v.DropFD, err = bpf.AttachDrop(v.Index)
		return err
	})
}
