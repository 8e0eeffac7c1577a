package state

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

// good are routes and settings that tell n.
func good(t testing.TB, n int) Good {
	return Good{Routes: routes(t, n), Settings: fmt.Sprintf(`{"gateway":":%d"}`, n)}
}

// routes are a document that tells n.
func routes(t testing.TB, n int) route.Config {
	t.Helper()
	config, err := route.ParseJSON(fmt.Appendf(nil, `{"routes":[{"name":"r%d","match":{"path":"/<&>"},"topic":"t","ack_timeout":"2s"}]}`, n))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestWhatIsSavedIsLoaded(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "crowd", "xds")
	s, err := Open(directory, discard())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Load("shop"); ok {
		t.Error("routes that nobody saved")
	}
	for n := range 3 {
		if err := s.Save("shop", good(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Save("other", good(t, 7)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(directory, discard())
	if err != nil {
		t.Fatal(err)
	}
	for group, n := range map[string]int{"shop": 2, "other": 7} {
		got, ok := again.Load(group)
		if diff := cmp.Diff(good(t, n), got); !ok || diff != "" {
			t.Errorf("%s (%v, -want +got):\n%s", group, ok, diff)
		}
	}
	// People look into it with the tools they have.
	got, err := routefile.Load(filepath.Join(directory, "shop.yaml"))
	if diff := cmp.Diff(routes(t, 2), got); err != nil || diff != "" {
		t.Errorf("as a routes file: %v (-want +got):\n%s", err, diff)
	}
	entries, err := filepath.Glob(filepath.Join(directory, "[^.]*"))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v in the directory, %v", entries, err)
	}
}

// A file that is not what was saved is never served: it is set aside, said, and no obstacle to what comes after.
func TestADamagedFileIsSetAside(t *testing.T) {
	whole, err := encode(good(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	body := func(text string) []byte { return append([]byte(head([]byte(text))+"\n"), text...) }
	damaged := map[string][]byte{
		"empty":   nil,
		"cut off": whole[:len(whole)-1],
		"refused": body("# with x\n" + `{"routes":[],"later":1}` + "\n"),
		"older":   body(`{"routes":[]}` + "\n"),
		"alien":   []byte("routes: []\n"),
	}
	for i := range whole {
		if i%7 == 0 {
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1
			damaged[fmt.Sprint("bit in byte ", i)] = flipped
		}
	}
	for name, text := range damaged {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			path := filepath.Join(directory, "shop.yaml")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			s, err := Open(directory, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			if c, ok := s.Load("shop"); ok {
				t.Errorf("loaded: %v", c)
			}
			if !strings.Contains(log.String(), "set aside") || !strings.Contains(log.String(), path) {
				t.Errorf("log: %s", &log)
			}
			if aside, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(aside, text) {
				t.Errorf("aside: %q, %v", aside, err)
			}
			if err := s.Save("shop", good(t, 2)); err != nil {
				t.Fatal(err)
			}
			if _, ok := s.Load("shop"); !ok {
				t.Error("what was saved after it is not there")
			}
		})
	}
}

func TestOpenFailsWhereNothingCanBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "/crowd/state"), discard()); err == nil || !strings.HasPrefix(err.Error(), "state directory: ") {
		t.Errorf("Open: %v", err)
	}
}

// Groups of two servers may have the same name and not the same routes.
func TestOpenFailsWhereAnotherHasTheDirectory(t *testing.T) {
	directory := t.TempDir()
	s, err := Open(directory, discard())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(directory, discard()); err == nil || !strings.Contains(err.Error(), directory+" is in use by another crowd xds") {
		t.Errorf("Open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(directory, discard()); err != nil {
		t.Errorf("Open after Close: %v", err)
	}
}

// What cannot be read now may be later: it is not to be taken away from the next start.
func TestAFileThatCannotBeReadStays(t *testing.T) {
	disk := vfs.NewMem()
	var broken atomic.Bool
	s, err := open(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpFileRead {
			return errors.New("broken disk")
		}
		return nil
	})), "/crowd/state", discard())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save("shop", good(t, 1)); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	if c, ok := s.Load("shop"); ok {
		t.Errorf("loaded from a broken disk: %v", c)
	}
	broken.Store(false)
	if _, ok := s.Load("shop"); !ok {
		t.Error("gone when the disk is well again")
	}
}

// Whenever the machine stops, what the last finished Save wrote is there, or what the unfinished one was writing, and
// nothing else. Crashes come before and after every operation on the file system.
func TestCrash(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	disk := vfs.NewCrashableMem()
	var saved, saving int
	crashes := 0
	crash := errorfs.InjectorFunc(func(errorfs.Op) error {
		for range 4 {
			crashes++
			crashed := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: random})
			if saving == 0 {
				continue
			}
			s, err := open(crashed, "/crowd/state", discard())
			if err != nil {
				t.Fatal(err)
			}
			got, ok := s.Load("shop")
			want := []string{}
			for n := saved; n <= saving; n++ {
				if n > 0 {
					want = append(want, fmt.Sprint("r", n))
				}
			}
			if !ok && saved > 0 || ok && !strings.Contains(strings.Join(want, " "), got.Routes.Routes[0].Name) {
				t.Fatalf("after a crash while saving %d with %d saved: %v %+v", saving, saved, ok, got)
			}
		}
		return nil
	})
	s, err := open(errorfs.Wrap(disk, crash), "/crowd/state", discard())
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 8; n++ {
		saving = n
		if err := s.Save("shop", good(t, n)); err != nil {
			t.Fatal(err)
		}
		saved = n
	}
	t.Logf("%d crashes", crashes)
}

// Whichever operation fails, Save says so, and the earlier routes stay.
func TestSaveFails(t *testing.T) {
	broken := errors.New("broken disk")
	for failing := int64(1); ; failing++ {
		disk := vfs.NewCrashableMem()
		var operations, fail atomic.Int64
		s, err := open(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if n := operations.Add(1); n == fail.Load() && op.Kind != errorfs.OpFileClose {
				return broken
			}
			return nil
		})), "/crowd/state", discard())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Save("shop", good(t, 1)); err != nil {
			t.Fatal(err)
		}
		before := operations.Load()
		fail.Store(before + failing)
		err = s.Save("shop", good(t, 2))
		fail.Store(0)
		got, ok := s.Load("shop")
		if err == nil {
			if operations.Load() >= before+failing && got.Routes.Routes[0].Name != "r2" {
				t.Errorf("Save kept operation %d's failure to itself", failing)
			}
			if operations.Load() < before+failing || failing > 20 {
				return
			}
			continue
		}
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "save routes of shop: ") {
			t.Errorf("Save with a failing operation %d: %v", failing, err)
		}
		if !ok {
			t.Errorf("no routes after operation %d failed", failing)
		}
	}
}

func FuzzDecode(f *testing.F) {
	whole, err := encode(good(f, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(nil))
	f.Add([]byte(head(nil) + "\n"))
	f.Add([]byte(head([]byte("# with \n\n")) + "\n# with \n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		config, err := decode(text)
		if err != nil {
			return
		}
		again, err := encode(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Errorf("decoded, encoded and no longer decoded: %v", err)
		}
	})
}
