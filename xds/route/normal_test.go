package route

import "testing"

func TestNormalizedPath(t *testing.T) {
	for path, want := range map[string]string{
		"/leads":                 "/leads",
		"/x/../leads":            "/leads",
		"/./leads":               "/leads",
		"/%6Ceads/%6c":           "/leads/l",
		"/%2e%2E/leads":          "/leads",
		"/a//b/./c/..?x=%6C/../": "/a//b/?x=%6C/../",
		"/..":                    "/",
		"/a/.":                   "/a/",
		"/a%2Fb/%C3%BC/...":      "/a%2Fb/%C3%BC/...",
		"/":                      "/",
	} {
		if got := NormalizedPath(path); got != want {
			t.Errorf("%s becomes %s, want %s", path, got, want)
		}
	}
}
