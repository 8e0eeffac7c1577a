package routefile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// File is what a file holds.
type File struct {
	// Name is what errors call it.
	Name string
	Text []byte
}

// Read returns the file at path, or those of a directory whose names end with .yaml, .yml or .json, in the order of their
// names. Hidden files, among them what Kubernetes mounts beside those of a ConfigMap, and directories below are passed
// over. It fails where there is no such file.
func Read(path string) ([]File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = filesIn(path); err != nil {
			return nil, fmt.Errorf("read routes: %w", err)
		}
	}
	var files []File
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read routes: %w", err)
		}
		files = append(files, File{name, text})
	}
	return files, nil
}

// IsRoutes reports whether Read would take a file of this name in a directory.
func IsRoutes(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

func filesIn(directory string) ([]string, error) {
	entries, err := os.ReadDir(directory) // in order
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(directory, e.Name())
		if !IsRoutes(e.Name()) {
			continue
		}
		if info, err := os.Stat(name); err != nil || info.IsDir() { // through links
			if err != nil {
				return nil, err
			}
			continue
		}
		names = append(names, name)
	}
	if names == nil {
		return nil, fmt.Errorf("no routes files in %s (allowed: *.yaml, *.yml, *.json)", directory)
	}
	return names, nil
}
