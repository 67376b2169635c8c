package link

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unspeakable returns the features of a veth that make its end send super-frames for which a vnet header has no name
// (virtio_net_hdr_from_skb in linux/virtio_net.h): the packet socket throws them away. Without the features the kernel cuts them
// before. They are those of tunnels that a container builds over the switch, and of SCTP; a TAP has none of them.
func unspeakable(socket int) []string {
	list := []string{
		"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-gre-segmentation", "tx-gre-csum-segmentation",
		"tx-ipxip4-segmentation", "tx-ipxip6-segmentation", "tx-sctp-segmentation", "tx-gso-list",
	}
	if _, err := unix.GetsockoptInt(socket, unix.SOL_PACKET, unix.PACKET_VNET_HDR_SZ); err != nil {
		list = append(list, "tx-udp-segmentation") // a kernel with short vnet headers may be older than USO in them, Linux 6.2
	}
	return list
}

const (
	ethSSFeatures = 4  // ETH_SS_FEATURES of linux/ethtool.h
	gstringLen    = 32 // ETH_GSTRING_LEN
)

// disableFeatures switches features of an interface in the calling thread's namespace off, those of them that the kernel knows.
func disableFeatures(ifname string, features []string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket for ethtool: %w", err)
	}
	defer unix.Close(fd)
	names, err := featureNames(fd, ifname)
	if err != nil {
		return fmt.Errorf("interface %s: read the names of its features: %w", ifname, err)
	}
	// struct ethtool_sfeatures: command, number of blocks, and for each 32 features those that are meant and those that are wanted.
	blocks := (len(names) + 31) / 32
	b := make([]byte, 8+8*blocks)
	binary.NativeEndian.PutUint32(b, unix.ETHTOOL_SFEATURES)
	binary.NativeEndian.PutUint32(b[4:], uint32(blocks))
	for i, name := range names {
		if valid := b[8+i/32*8:]; slices.Contains(features, name) {
			binary.NativeEndian.PutUint32(valid, binary.NativeEndian.Uint32(valid)|1<<(i%32))
		}
	}
	if err := ethtool(fd, ifname, b); err != nil {
		return fmt.Errorf("interface %s: switch off what a packet socket can't read: %w", ifname, err)
	}
	return nil
}

// featureNames lists the names of all features by number.
func featureNames(fd int, ifname string) ([]string, error) {
	info := make([]byte, 20) // struct ethtool_sset_info with one set
	binary.NativeEndian.PutUint32(info, unix.ETHTOOL_GSSET_INFO)
	binary.NativeEndian.PutUint64(info[8:], 1<<ethSSFeatures)
	if err := ethtool(fd, ifname, info); err != nil {
		return nil, err
	}
	n := int(binary.NativeEndian.Uint32(info[16:]))
	b := make([]byte, 12+n*gstringLen) // struct ethtool_gstrings
	binary.NativeEndian.PutUint32(b, unix.ETHTOOL_GSTRINGS)
	binary.NativeEndian.PutUint32(b[4:], ethSSFeatures)
	binary.NativeEndian.PutUint32(b[8:], uint32(n))
	if err := ethtool(fd, ifname, b); err != nil {
		return nil, err
	}
	names := make([]string, n)
	for i := range names {
		names[i] = unix.ByteSliceToString(b[12+i*gstringLen:][:gstringLen])
	}
	return names, nil
}

// ethtool does one SIOCETHTOOL, whose command is at the start of b.
func ethtool(fd int, ifname string, b []byte) error {
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&b[0])}
	copy(req.name[:unix.IFNAMSIZ-1], ifname)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}
