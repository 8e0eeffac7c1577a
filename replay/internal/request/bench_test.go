//go:build unix

package request

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// typical is a record of a POST as a browser sends it, with a body of 512 bytes.
var typical = record.Record{
	Method: "POST", Scheme: "https", Authority: "shop.example", Path: "/api/v1/leads?source=web", Source: "192.0.2.1:34567", Route: "leads",
	Headers: []record.Header{
		{Name: "accept", Value: "*/*"}, {Name: "accept-encoding", Value: "gzip, deflate, br"}, {Name: "accept-language", Value: "de-DE,de;q=0.9"},
		{Name: "content-type", Value: "application/json"}, {Name: "content-length", Value: "512"}, {Name: "origin", Value: "https://shop.example"},
		{Name: "referer", Value: "https://shop.example/checkout"}, {Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
		{Name: "x-forwarded-for", Value: "192.0.2.1"}, {Name: "x-forwarded-proto", Value: "https"}, {Name: "x-request-id", Value: "5c1f1d4e-0000-4000-8000-000000000000"},
		{Name: "x-tenant", Value: "42"},
	},
	Body: bytes.Repeat([]byte("x"), 512),
}

// BenchmarkBuild is the making of a request without its sending.
func BenchmarkBuild(b *testing.B) {
	s := newSender(b, config("http://127.0.0.1:1/base"))
	a := attempt(typical)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.request(a); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSend sends from 16 goroutines a processor. The server of HTTP/1.1 answers without looking, so that the CPU is the
// client's for the most part; that of HTTP/2 is net/http's, and costs at least as much as the client.
func BenchmarkSend(b *testing.B) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"OK\"}")
	b.Run("HTTP1", func(b *testing.B) {
		send(b, config(listen(b, func(conn net.Conn) {
			reader := bufio.NewReaderSize(conn, 8<<10)
			for {
				for {
					line, err := reader.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 {
						break
					}
				}
				if _, err := reader.Discard(len(typical.Body)); err != nil {
					return
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		})))
	})
	b.Run("HTTP2", func(b *testing.B) {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = w.Write(answer[len(answer)-15:])
		}))
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		defer server.Close()
		c := config(server.URL)
		c.HTTP1, c.HTTP2 = false, true
		send(b, c)
	})
}

func send(b *testing.B, c Config) {
	s := newSender(b, c)
	a := attempt(typical)
	b.SetParallelism(16)
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if o := s.Send(b.Context(), a); o.Verdict != flow.Delivered {
				b.Errorf("%+v", o)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1e3, "cpu-µs/op") // the server's included
}

// cpu returns the processor time of this process, in nanoseconds.
func cpu(b *testing.B) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
