package api

import (
	"fmt"
	"regexp"
)

// How many bytes names may have. An interface's is the kernel's limit (IFNAMSIZ).
const (
	MaxName   = 64
	MaxIfName = 15
)

var (
	namePattern   = regexp.MustCompile(fmt.Sprintf(`^[A-Za-z0-9][A-Za-z0-9_-]{0,%d}$`, MaxName-1))
	ifNamePattern = regexp.MustCompile(fmt.Sprintf(`^[!-.0-9;-~]{1,%d}$`, MaxIfName))
)

// CheckName refuses names of objects that are not [A-Za-z0-9][A-Za-z0-9_-]{0,63}. kind goes into the message.
func CheckName(kind, name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	return Errorf(CodeInvalid, "%s name %.70q is not allowed: use 1 to %d letters, digits, '_' and '-', starting with a letter or digit", kind, name, MaxName)
}

// CheckIfName refuses names that the kernel refuses for an interface (dev_valid_name in net/core/dev.c), and those that a terminal or
// JSON may not show as they are: what is not ASCII, and control characters.
func CheckIfName(name string) error {
	if ifNamePattern.MatchString(name) && name != "." && name != ".." {
		return nil
	}
	return Errorf(CodeInvalid, "interface name %.70q is not allowed: use 1 to %d bytes of ASCII without '/', ':' and blanks", name, MaxIfName)
}
