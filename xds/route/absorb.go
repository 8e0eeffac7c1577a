package route

import "strings"

// neverAbsorbed returns why no route can take a request, whatever it matches; "" if one can.
func neverAbsorbed(r *Request) string {
	if r.Method == "CONNECT" {
		return "a tunnel (CONNECT) has no end to wait for, and is never absorbed"
	}
	for _, h := range r.Headers {
		switch {
		case h[0] == "upgrade":
			return "an upgrade has no end to wait for, and is never absorbed"
		case h[0] == "content-type" && strings.HasPrefix(h[1], "application/grpc"):
			return "a gRPC request is never absorbed: Envoy would turn a refusal into HTTP status 200"
		}
	}
	return ""
}
