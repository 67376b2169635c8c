package link

// AttachClsact attaches the drop program as on kernels without tcx.
func AttachClsact(ns *Namespace, index int) error {
	h, err := ns.netlink()
	if err != nil {
		return err
	}
	return attachClsact(h, index)
}
