package quickstart

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/marceloboeira/crowd/xds"
)

// RoutesFile is the routes file unless told otherwise, as seen from the top of the source tree. Elsewhere a copy
// of it is used, in the user's configuration directory.
const RoutesFile = "examples/quickstart/routes.yaml"

//go:embed routes.yaml
var routes []byte

// findFilter looks where `make build` and `make install` put the module.
func findFilter(given string) (string, error) {
	if given != "" {
		return module(given)
	}
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("looking for crowd.wasm: %w; pass its path with --filter", err)
	}
	dir := filepath.Dir(program)
	for _, path := range []string{filepath.Join(dir, "crowd.wasm"), filepath.Join(dir, "..", "lib", "crowd", "crowd.wasm")} {
		if found, err := existing(path); err == nil {
			return module(found)
		}
	}
	return "", fmt.Errorf("there is no crowd.wasm beside %s: run `make build`, or pass its path with --filter", program)
}

// module returns the absolute path of a Wasm module.
func module(path string) (string, error) {
	if err := xds.CheckFilter(path); err != nil {
		return "", fmt.Errorf("--filter: %w", err)
	}
	return filepath.Abs(path)
}

// existing returns a file's absolute path, for Envoy may run elsewhere.
func existing(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// routesFile returns the path of the routes file.
func routesFile(given string) (string, error) {
	if given != "" {
		path, err := existing(given)
		if err != nil {
			return "", fmt.Errorf("--routes: %w", err)
		}
		return path, nil
	}
	if found, err := existing(RoutesFile); err == nil {
		return found, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place to keep a routes file in: %w; set HOME or XDG_CONFIG_HOME, or pass a file with --routes", err)
	}
	path := filepath.Join(dir, "crowd", "routes.yaml")
	if err := copyRoutes(path); err != nil {
		return "", fmt.Errorf("making a routes file: %w; pass one of your own with --routes", err)
	}
	return path, nil
}

// copyRoutes makes the file at path, unless it is there, perhaps edited.
func copyRoutes(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = file.Write(routes)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path)) // half a file would be taken for an edited one
	}
	return nil
}
