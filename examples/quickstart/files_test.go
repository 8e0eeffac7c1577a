package quickstart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFindFilter(t *testing.T) {
	dir := t.TempDir()
	wasm, other, empty, none := filepath.Join(dir, "crowd.wasm"), filepath.Join(dir, "some.yaml"), filepath.Join(dir, "empty"), filepath.Join(dir, "none")
	write(t, wasm, "\x00asm\x01\x00\x00\x00")
	write(t, other, "routes: []\n")
	write(t, empty, "")
	if got, err := findFilter(wasm); got != wasm || err != nil {
		t.Errorf("%s: %s, %v", wasm, got, err)
	}
	for path, want := range map[string]string{
		other: "--filter: " + other + " is not a Wasm module; run `make build`",
		empty: "--filter: " + empty + " is not a Wasm module; run `make build`",
		dir:   "--filter: " + dir + " is not a Wasm module; run `make build`",
		none:  "--filter: open " + none + ": no such file or directory; run `make build`",
	} {
		if _, err := findFilter(path); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// Outside the source tree there is one routes file, which stays as people edit it.
func TestOwnRoutesFile(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	path, err := routesFile("")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); string(got) != string(routes) || err != nil {
		t.Errorf("%s holds %q, %v", path, got, err)
	}
	write(t, path, "routes: []\n")
	again, err := routesFile("")
	if again != path || err != nil {
		t.Errorf("%s, %v; want %s", again, err, path)
	}
	if got, err := os.ReadFile(path); string(got) != "routes: []\n" || err != nil {
		t.Errorf("edited, and then %q, %v", got, err)
	}
}
