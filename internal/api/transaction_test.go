package api_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/api"
)

func TestOperationJSON(t *testing.T) {
	web, mtu := "web", 1400
	for _, tt := range []struct {
		text string
		want api.Operation
	}{
		{`{"op":"add-network","name":"n","mtu":1400}`, api.Operation{Op: api.OpAddNetwork, Request: &api.NetworkRequest{Name: "n", MTU: 1400}}},
		{`{"op":"set-port","mtu":1400,"name":"web"}`, api.Operation{Op: api.OpSetPort, Request: &api.PortChange{Name: &web, MTU: &mtu}}},
		{`{"op":"del-port","name":"web","if_exists":true}`, api.Operation{Op: api.OpDelPort, Request: &api.DeleteRequest{Name: "web", IfExists: true}}},
		{`{"op":"connect","name":"web","network":"n"}`, api.Operation{Op: api.OpConnect,
			Request: &api.NamedConnect{Name: "web", ConnectRequest: api.ConnectRequest{Network: "n"}}}},
		{`{"op":"add-network"}`, api.Operation{Op: api.OpAddNetwork, Request: &api.NetworkRequest{}}},
	} {
		var got api.Operation
		if err := json.Unmarshal([]byte(tt.text), &got); err != nil {
			t.Errorf("%s: %v", tt.text, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, d)
		}
		if text, err := json.Marshal(got); err != nil || string(text) != tt.text {
			t.Errorf("%s is written as %s, %v", tt.text, text, err)
		}
	}
}

func TestOperationJSONRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`7`:                                 "no JSON object",
		`{}`:                                `lacks its "op"`,
		`{"op":7}`:                          `lacks its "op"`,
		`{"op":"list-ports"}`:               `"list-ports" can't be in a transaction, which has verbs that change the configuration only: use add-fdb,`,
		`{"op":"del-port","name":7}`:        "operation del-port:",
		`{"op":"del-port","nam":"web"}`:     `operation del-port: unknown field "nam"`,
		`{"op":"add-port","transaction":1}`: "unknown field",
	} {
		var o api.Operation
		err := json.Unmarshal([]byte(text), &o)
		var refused *api.Error
		if !errors.As(err, &refused) || refused.Code != api.CodeInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestEveryOperation: each has a request that tells what it is about.
func TestEveryOperation(t *testing.T) {
	for _, op := range api.Operations() {
		var o api.Operation
		key, object := "name", "x"
		switch {
		case strings.HasSuffix(op, "-fdb"):
			key = "mac"
		case strings.HasSuffix(op, "-route"):
			key, object = "prefix", "10.9.0.0/16"
		case op == api.OpAddRule:
			key = "on"
		case op == api.OpDelRule:
			key = "id"
		case strings.HasSuffix(op, "publish"):
			key = "port"
		}
		if err := json.Unmarshal([]byte(`{"op":"`+op+`","`+key+`":"`+object+`"}`), &o); err != nil || o.Object() != object {
			t.Errorf("%s is about %q, %v", op, o.Object(), err)
		}
	}
}
