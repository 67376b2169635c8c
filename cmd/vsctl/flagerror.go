package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError says what is wrong with a flag in words for people, and what to write instead.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		if name := unknown.GetSpecifiedName(); len(name) < 2 {
			return err // all short names are like it
		} else if like := flagsLike(cmd, name); len(like) > 0 {
			return fmt.Errorf("%w: did you mean %s?", err, strings.Join(like, " or "))
		}
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		why := invalid.Unwrap().Error()
		switch f.Value.Type() { // those whose own errors are Go's
		case "int":
			why = "use a number"
		case "uint32":
			why = "use a number from 0 to 4294967295"
		case "uint64":
			why = "use a number, not below 0"
		case "duration":
			why = "use a time, such as 30s or 2m"
		case "bool":
			why = "use true or false"
		}
		if strings.Contains(why, strconv.Quote(invalid.GetValue())) { // once is enough
			return fmt.Errorf("--%s: %s", f.Name, why)
		}
		return fmt.Errorf("--%s %q: %s", f.Name, invalid.GetValue(), why)
	}
	return err
}

// flagsLike returns the flags of the command that a misspelt name may stand for, by the measure that commands are suggested by.
func flagsLike(cmd *cobra.Command, name string) (like []string) {
	flags := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	for _, l := range flags.SuggestionsFor(name) {
		like = append(like, "--"+l)
	}
	return like
}

// prefix, addressInSubnet and address read the values of flags.
func prefix(s string) (netip.Prefix, error) { return prefixLike(s, "10.0.0.0/24 or fd00::/64") }

func addressInSubnet(s string) (netip.Prefix, error) {
	return prefixLike(s, "192.0.2.9/24 or 2001:db8::9/64")
}

// counted reads a number from 1 to most: 0 would stand for the default, which nobody asks for who gives a number.
func counted[T int | uint32](to *T, most uint32) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n == 0 || n > uint64(most) {
			return fmt.Errorf("use a number from 1 to %d", most)
		}
		*to = T(n)
		return nil
	}
}

// maxMetric is the largest metric of a route.
const maxMetric = math.MaxInt32

func prefixLike(s, example string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errors.New("use ADDRESS/LENGTH, such as " + example)
	}
	return p, nil
}

func address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, errors.New("use an address, such as 10.0.0.2 or fd00::2")
	}
	return a, nil
}
