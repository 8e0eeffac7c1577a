package route

import (
	"strings"
	"testing"
)

func TestNeverAbsorbed(t *testing.T) {
	table, err := Compile(Config{Routes: []Route{{Name: "all", Match: Match{Prefix: "/"}, Policy: Policy{Topic: "all"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		request Request
		reason  string // "" where the route takes it
	}{
		"plain":        {Request{Method: "POST", Path: "/"}, ""},
		"other type":   {Request{Method: "POST", Path: "/", Headers: [][2]string{{"content-type", "application/json"}}}, ""},
		"tunnel":       {Request{Method: "CONNECT", Path: "/"}, "CONNECT"},
		"upgrade":      {Request{Method: "GET", Path: "/", Headers: [][2]string{{"upgrade", "websocket"}}}, "upgrade"},
		"gRPC":         {Request{Method: "POST", Path: "/", Headers: [][2]string{{"content-type", "application/grpc"}}}, "gRPC"},
		"gRPC, a kind": {Request{Method: "POST", Path: "/", Headers: [][2]string{{"content-type", "application/grpc+proto"}}}, "gRPC"},
	} {
		t.Run(name, func(t *testing.T) {
			rule, step := table.Match(&c.request), table.Explain(&c.request)[0]
			if taken := c.reason == ""; (rule != nil) != taken || step.Matched != taken {
				t.Errorf("matched %v, explained %v, want %v", rule != nil, step.Matched, taken)
			}
			if !strings.Contains(step.Reason, c.reason) {
				t.Errorf("reason %q, want %q in it", step.Reason, c.reason)
			}
		})
	}
}
