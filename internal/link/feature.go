package link

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
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
	if err := setFeatures(ifname, features, false); err != nil {
		return fmt.Errorf("interface %s: switch off what a packet socket can't read: %w", ifname, err)
	}
	return nil
}

// LRO is the feature of large receive offload, whose super-frames can't be sent on as they came.
const LRO = "rx-lro"

// Feature tells whether a feature of an interface is on. One that the kernel doesn't know is off.
func Feature(ns *Namespace, ifname, feature string) (on bool, err error) {
	err = ns.Do(func() error {
		return withEthtool(ifname, func(fd int, names []string) error {
			// struct ethtool_gfeatures: command, number of blocks, and for each 32 features those that are available, requested, active
			// and fixed.
			i := slices.Index(names, feature)
			blocks := (len(names) + 31) / 32
			b := make([]byte, 8+16*blocks)
			binary.NativeEndian.PutUint32(b, unix.ETHTOOL_GFEATURES)
			binary.NativeEndian.PutUint32(b[4:], uint32(blocks))
			if err := ethtool(fd, ifname, b); err != nil || i < 0 {
				return err
			}
			on = binary.NativeEndian.Uint32(b[8+i/32*16+8:])&(1<<(i%32)) != 0
			return nil
		})
	})
	if err != nil {
		return false, fmt.Errorf("interface %s: look at its feature %s: %w", ifname, feature, err)
	}
	return on, nil
}

// SetFeature switches a feature of an interface on or off.
func SetFeature(ns *Namespace, ifname, feature string, on bool) error {
	if err := ns.Do(func() error { return setFeatures(ifname, []string{feature}, on) }); err != nil {
		return fmt.Errorf("interface %s: set its feature %s to %t: %w", ifname, feature, on, err)
	}
	return nil
}

func setFeatures(ifname string, features []string, on bool) error {
	return withEthtool(ifname, func(fd int, names []string) error {
		// struct ethtool_sfeatures: command, number of blocks, and for each 32 features those that are meant and those that are wanted.
		blocks := (len(names) + 31) / 32
		b := make([]byte, 8+8*blocks)
		binary.NativeEndian.PutUint32(b, unix.ETHTOOL_SFEATURES)
		binary.NativeEndian.PutUint32(b[4:], uint32(blocks))
		for i, name := range names {
			if !slices.Contains(features, name) {
				continue
			}
			block, bit := b[8+i/32*8:], uint32(1)<<(i%32)
			binary.NativeEndian.PutUint32(block, binary.NativeEndian.Uint32(block)|bit)
			if on {
				binary.NativeEndian.PutUint32(block[4:], binary.NativeEndian.Uint32(block[4:])|bit)
			}
		}
		return ethtool(fd, ifname, b)
	})
}

// withEthtool runs do with a socket for ethtool and the names of all features.
func withEthtool(ifname string, do func(fd int, names []string) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket for ethtool: %w", err)
	}
	defer unix.Close(fd)
	names, err := featureNames(fd, ifname)
	if err != nil {
		return fmt.Errorf("read the names of its features: %w", err)
	}
	return do(fd, names)
}

// knownFeatures are the names of all features by number. They are the kernel's: the same for all interfaces.
var knownFeatures atomic.Pointer[[]string]

// featureNames lists the names of all features by number.
func featureNames(fd int, ifname string) ([]string, error) {
	if known := knownFeatures.Load(); known != nil {
		return *known, nil
	}
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
	knownFeatures.Store(&names)
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
