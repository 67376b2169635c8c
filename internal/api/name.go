package api

import "regexp"

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	ifNamePattern = regexp.MustCompile(`^[!-.0-9;-~]{1,15}$`)
)

// CheckName refuses names of objects that are not [A-Za-z0-9][A-Za-z0-9_-]{0,63}. kind goes into the message.
func CheckName(kind, name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	return Errorf(CodeInvalid, "%s name %.70q is not allowed: use 1 to 64 letters, digits, '_' and '-', starting with a letter or digit", kind, name)
}

// CheckIfName refuses names that the kernel refuses for an interface (dev_valid_name in net/core/dev.c), and those that a terminal or
// JSON may not show as they are: what is not ASCII, and control characters.
func CheckIfName(name string) error {
	if ifNamePattern.MatchString(name) && name != "." && name != ".." {
		return nil
	}
	return Errorf(CodeInvalid, "interface name %.70q is not allowed: use 1 to 15 bytes of ASCII without '/', ':' and blanks", name)
}
