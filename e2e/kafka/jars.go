package kafka

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Version is Kafka's, as pom.xml pins it.
const Version = "4.3.0"

//go:embed pom.xml
var pom []byte

// errMissing marks an error that says which program this machine lacks.
var errMissing = errors.New("not on PATH")

// jars returns the directory with Kafka's jars, which Maven fills once for each user and content of pom.xml.
// Test processes may call it at the same time: the directory comes into being by a rename, so it is whole or
// not there.
func jars(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding a place for Kafka's jars: %w", err)
	}
	sum := sha256.Sum256(pom)
	dir := filepath.Join(cache, "crowd", fmt.Sprintf("kafka-%s-%.4x", Version, sum[:]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return "", fmt.Errorf("mvn, which fetches Kafka's jars: %w", errMissing)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("making a place for Kafka's jars: %w", err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "kafka-fetching-")
	if err != nil {
		return "", fmt.Errorf("making a place for Kafka's jars: %w", err)
	}
	defer os.RemoveAll(fresh)
	pomFile := filepath.Join(fresh, "pom.xml")
	if err := os.WriteFile(pomFile, pom, 0o644); err != nil {
		return "", fmt.Errorf("writing Maven's project file: %w", err)
	}
	cmd := exec.CommandContext(ctx, mvn, "--batch-mode", "--quiet", "--file", pomFile,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+fresh)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetching Kafka's jars with Maven: %w\n%s", err, out)
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("putting Kafka's jars in place: %w", err)
	}
	return dir, nil
}
