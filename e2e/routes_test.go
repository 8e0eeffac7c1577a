package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRoutesCommands checks what people run before they trust a file to production.
func TestRoutesCommands(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.yaml")
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	directory, other, odd := t.TempDir(), filepath.Join(t.TempDir(), "other.yaml"), filepath.Join(t.TempDir(), "odd.yaml")
	for path, text := range map[string]string{
		other: strings.Replace(absorbRoutes, "name: leads", "name: others", 1) + "uplink: {streams: 3}\n",
		odd: "defaults: {topic: t}\nroutes: [{name: host, match: {path: /h, hosts: [shop.example]}}, " +
			"{name: pipe, match: {path: \"/a|%7C\"}}]\n",
		filepath.Join(directory, "1.yaml"): "defaults: {topic: t}\nroutes: [{name: a, match: {path: /a}}]\n",
		filepath.Join(directory, "2.yaml"): "routes: [{name: b, match: {path: /a}}]\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(good, []byte(absorbRoutes), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, []byte("routes:\n  - {name: a, topic: \"no spaces\", match: {path: leads}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"valid":      {[]string{"routes", "check", good}, 0, []string{good + ": 3 routes"}},
		"invalid":    {[]string{"routes", "check", good, bad}, 1, []string{bad + ":2:", "topic", "match.path", "1 of 2"}},
		"unreadable": {[]string{"routes", "check", good + ".none", good}, 1, []string{good + ".none", good + ": 3 routes", "1 of 2"}},
		"no file":    {[]string{"routes", "check"}, 2, []string{"want at least one FILE", "usage"}},
		"taken":      {[]string{"routes", "explain", "POST http://x/orders/1?a=b", "--routes", good}, 0, []string{"leads", "✓ orders"}},
		"as it came": {[]string{"routes", "explain", "POST http://x/orders/%zz|ü?a=b#c", "--routes", good}, 0, []string{"✓ orders"}},
		"no path":    {[]string{"routes", "explain", "POST http://x?a", "--routes", good}, 0, []string{`path "/" is not "/leads"`}},
		"host":       {[]string{"routes", "explain", "POST http://x/h", "--routes", odd, "-H", "Host: Shop.Example:80"}, 0, []string{"✓ host"}},
		"encoded":    {[]string{"routes", "explain", "POST http://x/a|%7C", "--routes", odd}, 0, []string{"✓ pipe"}},
		"gRPC":       {[]string{"routes", "explain", "POST http://x/leads", "--routes", good, "-H", "content-type: application/grpc"}, 0, []string{"never absorbed", "no route"}},
		"not taken":  {[]string{"routes", "explain", "GET http://x/leads", "--routes", good}, 0, []string{"no route"}},
		"directory": {[]string{"routes", "check", directory}, 0, []string{
			filepath.Join(directory, "2.yaml") + ":1:", "never matches: routes[0] (a)", directory + ": 2 routes"}},
		"the same": {[]string{"routes", "diff", good, good}, 0, nil},
		"differs": {[]string{"routes", "diff", good, other}, 1, []string{
			"+ route others: added", "- route leads: removed", "~ uplink.streams: 2 → 3"}},
		"no diff":    {[]string{"routes", "diff", good, bad}, 2, []string{bad + ":2:"}},
		"one file":   {[]string{"routes", "diff", good}, 2, []string{"want two files"}},
		"schema":     {[]string{"routes", "schema"}, 0, []string{`"$schema"`, "path_template"}},
		"no request": {[]string{"routes", "explain", "leads", "--routes", good}, 1, []string{"want a method and a URL"}},
		"no method":  {[]string{"routes", "explain", " http://x/leads", "--routes", good}, 1, []string{"want a method and a URL"}},
		"no quotes":  {[]string{"routes", "explain", "POST", "http://x/leads"}, 2, []string{"want one 'METHOD URL', not \"POST http://x/leads\""}},
		"no HTTP":    {[]string{"routes", "explain", "POST ftp://x/leads", "--routes", good}, 1, []string{"want a method and a URL"}},
		"control":    {[]string{"routes", "explain", "PO\x1bST http://x/leads", "--routes", good}, 1, []string{`"PO\x1bST http://x/leads"`}},
		"no default": {[]string{"routes", "explain", "POST http://x/leads"}, 1, []string{"--routes"}},
		"no topic":   {[]string{"tail", "--kafka", "127.0.0.1:1"}, 2, []string{"want one TOPIC"}},
		"no module":  {[]string{"xds", "--routes", good, "--filter-inline", good}, 1, []string{"--filter-inline", good, "make build"}},
		"no server":  {[]string{"xds", "status", "--admin", "127.0.0.1:1"}, 1, []string{"status of 127.0.0.1:1: ", "1 of 1 servers did not answer"}},
		"no share":   {[]string{"xds", "--canary", "10"}, 2, []string{"want a whole number from 0% to 100%, such as 10%"}},
		"no spool":   {[]string{"spool", "verify", t.TempDir()}, 1, []string{"there is no spool in "}},
		"no DIR":     {[]string{"spool", "dump", "--json"}, 2, []string{"want one DIR", "set-aside"}},
		"no command": {[]string{"spool"}, 2, []string{"crowd spool dump", "crowd spool verify"}},
		"nonsense":   {[]string{"rotues"}, 2, []string{"no command \"rotues\""}},
		"help":       {[]string{"--help"}, 0, []string{"crowd dev"}},
		"its flags":  {[]string{"collector", "--help"}, 0, []string{"-kafka-config"}},
		"no Kafka":   {[]string{"collector"}, 1, []string{"--kafka"}},
		"no routes":  {[]string{"xds", "--filter", "x"}, 1, []string{"routes"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := crowd(t, c.args...)
			if code := p.exit(); code != c.code {
				t.Errorf("exit status %d, want %d: %s", code, c.code, p.out)
			}
			for _, part := range c.want {
				if !strings.Contains(p.out.String(), part) {
					t.Errorf("says %q, want %q in it", p.out, part)
				}
			}
		})
	}
}

// TestRoutesCommandsEndWhenToldTo interrupts one that waits for a file which nobody writes.
func TestRoutesCommandsEndWhenToldTo(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := crowd(t, "routes", "check", fifo)
	// Returns when the program reads.
	writer, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code == 0 {
		t.Errorf("exit status %d: %s", code, p.out)
	}
}
