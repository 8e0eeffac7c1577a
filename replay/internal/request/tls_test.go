package request

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// writePEM returns the path of a new file.
func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rewrites are pairs of a pattern and a substitution.
func rewrites(pairs ...string) (all []PathRewrite) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, PathRewrite{regexp.MustCompile(pairs[i]), pairs[i+1]})
	}
	return all
}
