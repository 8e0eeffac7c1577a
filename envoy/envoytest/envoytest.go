// Package envoytest gives tests a real Envoy, and what it needs besides.
package envoytest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/envoy"
)

// Variable in the environment is the path of the Envoy to test with; without it, tests use what envoy.Find finds or
// installs.
const Variable = "CROWD_ENVOY"

// installTime is enough for a download of 35 MB on a slow line.
const installTime = 5 * time.Minute

var find = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), installTime)
	defer cancel()
	return envoy.Find(ctx, os.Getenv(Variable), "", func(msg string, args ...any) {
		fmt.Fprintln(os.Stderr, append([]any{msg}, args...)...)
	})
})

// Path returns the path of an Envoy. Where there is none to be had, the test fails if CI=true, and otherwise is
// skipped, with the reason.
func Path(t testing.TB) string {
	t.Helper()
	path, err := find()
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skip("needs an Envoy: ", err)
	}
	return ""
}
