package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vswitch/internal/api"
)

var stormKinds = []string{api.StormBroadcast, api.StormMulticast, api.StormUnknown}

// stormMeter makes a flag that is a kind of floods and its rate, KIND=PPS.
func stormMeter(to *map[string]int) func(string) error {
	return func(s string) error {
		kind, text, ok := strings.Cut(s, "=")
		rate, err := strconv.Atoi(text)
		if text == "off" {
			rate, err = 0, nil
		}
		if !ok || err != nil || !slices.Contains(stormKinds, kind) {
			return fmt.Errorf("use KIND=PPS: %s, and packets per second or off", strings.Join(stormKinds, ", "))
		}
		if *to == nil {
			*to = make(map[string]int)
		}
		(*to)[kind] = rate
		return nil
	}
}

// completeStorm completes the kind, behind which a number follows.
func completeStorm(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var list []string
	for _, k := range stormKinds {
		list = append(list, k+"=")
	}
	return list, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

// storm lists a port's meters, as --storm takes them.
func storm(p api.Port) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(p.Storm)) {
		list = append(list, fmt.Sprintf("%s=%d", k, p.Storm[k]))
	}
	return strings.Join(list, ", ")
}
