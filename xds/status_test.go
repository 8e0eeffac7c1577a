package xds

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
	"github.com/marceloboeira/crowd/xds/internal/server"
)

func TestWriteStatus(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	rejection := rollout.Rejection{
		Node: "edge-1", Version: "2222222222222222", Type: "ecds", Reason: "no\nsuch \x1b[31mfile\tat all", At: ago(90 * time.Second),
	}
	all := []Status{
		{
			Server: "b",
			Groups: []server.GroupStatus{{Name: "shop", Stage: rollout.Canaries, Since: ago(59 * time.Second), Good: "1111111111111111", Candidate: "2222222222222222"}},
			Nodes:  []server.NodeStatus{{ID: "edge-1", Group: "shop", ConnectedSince: ago(3 * time.Hour), DisconnectedSince: ago(5 * time.Minute)}},
		},
		{
			Server: "a",
			Groups: []server.GroupStatus{
				{Name: "shop", Stage: rollout.RolledBack, Since: ago(90 * time.Second), Good: "1111111111111111", Rejection: &rejection},
				{Name: "bank", Stage: rollout.Idle},
			},
			Nodes: []server.NodeStatus{
				{
					ID: "edge-1", Cluster: "edge", Group: "shop", Canary: true, ConnectedSince: ago(47 * time.Hour),
					Wanted: "1111111111111111", WantedSince: ago(90 * time.Second), Acknowledged: "1111111111111111", AcknowledgedSince: ago(time.Second),
					Rejections: []rollout.Rejection{rejection, {Node: "edge-1", Type: "lds", Reason: "port taken", At: ago(100 * time.Hour)}},
				},
				{ID: "stranger", ConnectedSince: now.Add(time.Second)},
			},
		},
	}
	var b strings.Builder
	if err := WriteStatus(&b, all, now); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
GROUP  SERVER  STATE                    FOR  GOOD              CANDIDATE         ROLLED BACK
bank   a       nothing offered          -    -                 -                 -
shop   a       rolled back              1m   1111111111111111  -                 node edge-1: ecds of 2222222222222222, 1m ago: no such [31mfile at all
shop   b       rolling out to canaries  59s  1111111111111111  2222222222222222  -

NODE      GROUP  CANARY  SERVER  CONNECTED  WANTED            FOR  ACKNOWLEDGED      FOR  REJECTED
stranger  -      -       a       0s         -                 -    -                 -    -
edge-1    shop   yes     a       47h        1111111111111111  1m   1111111111111111  1s   `+
		`ecds of 2222222222222222, 1m ago: no such [31mfile at all; lds of an earlier version, 4d ago: port taken
edge-1    shop   -       b       gone 5m    -                 -    -                 -    -
`, "\n")
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFetchStatusFails(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		fmt.Fprint(w, "<html>")
	}))
	other := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	defer other.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	for address, want := range map[string]string{
		gone.Listener.Addr().String():  "connection refused",
		other.Listener.Addr().String(): "404 Not Found; is that the admin address of crowd xds?",
		s.Listener.Addr().String():     "; is that the admin address of crowd xds?",
		"a b":                          "want host:port",
	} {
		_, err := FetchStatus(t.Context(), address)
		if err == nil || !strings.HasPrefix(err.Error(), "status of "+address+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
