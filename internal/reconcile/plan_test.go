package reconcile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/reconcile"
)

func TestPlan(t *testing.T) {
	wanted := []reconcile.Wanted{
		{ID: "p1", Phase: reconcile.Present},
		{ID: "p2", Phase: reconcile.Present},
		{ID: "p3", Phase: reconcile.Adding},
		{ID: "p4", Phase: reconcile.Deleting},
		{ID: "p5", Phase: "from the future"},
		{ID: "p6", Phase: reconcile.Present, Remake: true},
		{ID: "p7", Phase: reconcile.Deleting, Remake: true},
	}
	held := []string{"p6", "zz", "p2", "p4", "aa", "aa", "p3"}
	want := []reconcile.Step{
		{Op: reconcile.Finish, ID: "p4"},
		{Op: reconcile.Finish, ID: "p7"},
		{Op: reconcile.Rollback, ID: "p3"},
		{Op: reconcile.Rollback, ID: "p5"},
		{Op: reconcile.Drop, ID: "aa"},
		{Op: reconcile.Drop, ID: "zz"},
		{Op: reconcile.Adopt, ID: "p2"},
		{Op: reconcile.Reopen, ID: "p1"},
		{Op: reconcile.Remake, ID: "p6"},
	}
	if d := cmp.Diff(want, reconcile.Plan(wanted, held)); d != "" {
		t.Errorf("plan (-want +got):\n%s", d)
	}
	if got := reconcile.Plan(nil, nil); len(got) != 0 {
		t.Errorf("plan of nothing: %v", got)
	}
}
