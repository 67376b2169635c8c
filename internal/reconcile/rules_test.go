package reconcile_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/reconcile"
)

// ruled gives the ports of a configuration rules: "web: in deny; out deny".
func ruled(c reconcile.Config, lists ...string) reconcile.Config {
	for _, list := range lists {
		name, texts, _ := strings.Cut(list, ": ")
		kind := "port"
		if name == "a" || name == "b" {
			kind = "network"
		}
		c.Rules = append(c.Rules, reconcile.Rules{Kind: kind, Name: name, Texts: strings.Split(texts, "; ")})
	}
	return c
}

func TestCompareRules(t *testing.T) {
	a := nets(network("a", "10.0.0.0/24"))
	web := with(a, port("web", "a"))
	for _, c := range []struct {
		name       string
		have, want reconcile.Config
		noDelete   bool
		shown      string
		carried    string // owner: all that its rules are to be
	}{
		{"same", ruled(web, "web: x; y"), ruled(web, "web: x; y"), false, "", ""},
		{"added", web, ruled(web, "web: x; y", "a: z"), false, "add rule a z, add rule web x, add rule web y", "a: z | web: x; y"},
		{"deleted", ruled(web, "web: x; y"), ruled(web, "web: y"), false, "delete rule web x", "web: y"},
		{"all deleted", ruled(web, "web: x"), web, false, "delete rule web x", "web: "},
		{"not deleted", ruled(web, "web: x", "a: z"), ruled(web, "web: y"), true, "add rule web y", "web: x; y"},
		{"another order", ruled(web, "web: x; y"), ruled(web, "web: y; x"), false, "change rule web in another order", "web: y; x"},
		{"changed", ruled(web, "web: x; y"), ruled(web, "web: x; z"), false, "delete rule web y, add rule web z", "web: x; z"},
		{"owner goes", ruled(web, "web: x", "a: z"), with(a), false, "delete rule a z, delete port web ", "a: "},
		{"all go", ruled(web, "web: x", "a: z"), with(nil), false, "delete port web , delete network a ", ""},
		{"owner is made anew", ruled(web, "web: x"), ruled(with(a, port("web", "a", veth)), "web: x"), false,
			"replace port web type tap -> veth, replace rule web they come again with it", "web: x"},
	} {
		var shown, carried []string
		for _, x := range reconcile.Compare(c.have, c.want, c.noDelete) {
			shown = append(shown, strings.Join([]string{x.Action, x.Kind, x.Name, x.Detail}, " "))
			if x.Rules != nil {
				carried = append(carried, x.Rules.Name+": "+strings.Join(x.Rules.Texts, "; "))
			}
		}
		slices.Sort(carried)
		if d := cmp.Diff([]string{c.shown, c.carried}, []string{strings.Join(shown, ", "), strings.Join(carried, " | ")}); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}
