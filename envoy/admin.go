package envoy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// heldStat is the filter's gauge of what it holds, in bytes, under the prefix that Envoy puts before a Wasm
	// module's own. The filter brings it up to date every 100 ms.
	heldStat = "wasmcustom.crowd.held_bytes"
	// quietTime is how long an Envoy must have nothing to do before it counts as drained: long enough for heldStat to
	// speak of the last request.
	quietTime = 300 * time.Millisecond
	// adminPrefix begins the statistics of the admin interface, whose own requests are no traffic.
	adminPrefix = "http.admin."
)

// adminClient leaves no connections behind, and asks no proxy.
var adminClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Admin is the address of the admin interface.
func (p *Process) Admin() string { return p.admin }

// Ready waits until Envoy has all the configuration that it waits for, and serves.
func (p *Process) Ready(ctx context.Context) error {
	return p.poll(ctx, "configuration", func() (bool, error) {
		_, err := p.ask(ctx, http.MethodGet, "/ready")
		if err == nil {
			p.ready.Store(true)
		}
		return err == nil, err
	})
}

// ListenerAddr waits for a listener and returns the address that it is bound to.
func (p *Process) ListenerAddr(ctx context.Context, listener string) (string, error) {
	var found string
	err := p.poll(ctx, "listener "+listener, func() (bool, error) {
		body, err := p.ask(ctx, http.MethodGet, "/listeners?format=json")
		if err != nil {
			return false, err
		}
		found, err = boundAddress(body, listener)
		return found != "", err
	})
	return found, err
}

// boundAddress reads Envoy's admin.v3.Listeners as JSON; "" where the listener is not in it.
func boundAddress(listeners []byte, name string) (string, error) {
	var all struct {
		Statuses []struct {
			Name  string `json:"name"`
			Local struct {
				Socket struct {
					Address string `json:"address"`
					Port    uint16 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(listeners, &all); err != nil {
		return "", fmt.Errorf("read envoy's listeners: %w", err)
	}
	for _, l := range all.Statuses {
		if socket := l.Local.Socket; l.Name == name && socket.Port != 0 {
			return net.JoinHostPort(socket.Address, strconv.Itoa(int(socket.Port))), nil
		}
	}
	return "", nil
}

// drain stops Envoy from taking connections, has it ask clients on those it has to go elsewhere, and waits until no
// request is under way and the filter holds nothing that no collector has stored. A client that ignores what it is
// asked can still send a request just before the process ends.
func (p *Process) drain(ctx context.Context) error {
	for _, path := range []string{"/healthcheck/fail", "/drain_listeners"} {
		if _, err := p.ask(ctx, http.MethodPost, path); err != nil {
			return err
		}
	}
	var quiet time.Time
	return p.poll(ctx, "last requests and records", func() (bool, error) {
		busy, err := p.busy(ctx)
		if busy || err != nil {
			quiet = time.Time{}
			return false, err
		}
		if quiet.IsZero() {
			quiet = time.Now()
		}
		return time.Since(quiet) >= quietTime, nil
	})
}

// busy reports whether a request is under way or the filter holds anything.
func (p *Process) busy(ctx context.Context) (bool, error) {
	filter := `^http\..*\.downstream_rq_active$|^` + regexp.QuoteMeta(heldStat) + `$`
	body, err := p.ask(ctx, http.MethodGet, "/stats?format=json&filter="+url.QueryEscape(filter))
	if err != nil {
		return false, err
	}
	return anyAbove0(body)
}

// anyAbove0 reads Envoy's statistics as JSON, of which it looks over those of the admin interface.
func anyAbove0(stats []byte) (bool, error) {
	var all struct {
		Stats []struct {
			Name  string `json:"name"`
			Value uint64 `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(stats, &all); err != nil {
		return false, fmt.Errorf("read envoy's statistics: %w", err)
	}
	for _, s := range all.Stats {
		if s.Value > 0 && !strings.HasPrefix(s.Name, adminPrefix) {
			return true, nil
		}
	}
	return false, nil
}

// ask returns the body of a 200; any other answer is an error.
func (p *Process) ask(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask envoy: %w", err)
	}
	response, err := adminClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask envoy: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("ask envoy for %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask envoy for %s: %s: %s", path, response.Status, bytes.TrimSpace(body))
	}
	return body, nil
}
