package link

import (
	"fmt"
	"hash/fnv"

	"vswitch/internal/api"
)

// DeviceName derives a device's name in the private namespace from the id of its port: the id itself where that fits into the
// 15 bytes of an interface name, else a hash of it.
func DeviceName(portID string) string {
	name := "vs-" + portID
	if api.CheckIfName(name) == nil {
		return name
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(portID))
	return fmt.Sprintf("vs-%012x", h.Sum64()>>16)
}
