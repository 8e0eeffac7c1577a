package peer

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	processorv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/marceloboeira/crowd/collector/collectpb"
)

// serving returns the address of a peer that ends with the test.
func serving(t *testing.T, serve func(net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var runs sync.WaitGroup
	runs.Go(func() { _ = serve(l) }) // until its listener is closed
	t.Cleanup(func() {
		l.Close()
		runs.Wait()
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestSinkCountsAndAcknowledges(t *testing.T) {
	conn := dial(t, serving(t, func(l net.Listener) error { return serveSink(l, Config{}) }))
	stream, err := collectpb.NewCollectorClient(conn).Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(m *collectpb.UplinkMessage) {
		t.Helper()
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	receive := func() *collectpb.CollectorMessage {
		t.Helper()
		for {
			m, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if m.GetWindow() == nil { // the heartbeat comes at any time
				return m
			}
		}
	}
	before := counted.Value()
	send(&collectpb.UplinkMessage{Message: &collectpb.UplinkMessage_Hello{Hello: &collectpb.Hello{Uplink: make([]byte, 16), Version: 1}}})
	if w := receive().GetWelcome(); w.GetVersion() != 1 || w.GetWindowBytes() == 0 || len(w.GetInstance()) != 16 {
		t.Errorf("welcome %v", w)
	}
	for sequence := range uint64(3) {
		send(&collectpb.UplinkMessage{Message: &collectpb.UplinkMessage_Batch{Batch: &collectpb.Batch{
			Sequence: sequence + 1, Records: []*collectpb.Record{{Id: make([]byte, 16)}, {Id: make([]byte, 16)}},
		}}})
		want := &collectpb.Ack{Sequence: sequence + 1, Level: collectpb.Level_LEVEL_KAFKA}
		if diff := cmp.Diff(want, receive().GetAck(), protocmp.Transform()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if n := counted.Value() - before; n != 6 {
		t.Errorf("%d records counted; want 6", n)
	}
}

func TestProcessorCountsWholeRequests(t *testing.T) {
	conn := dial(t, serving(t, func(l net.Listener) error { return serveProcessor(l, Config{}) }))
	before := counted.Value()
	headers := func(end bool) *processorv3.ProcessingRequest {
		return &processorv3.ProcessingRequest{Request: &processorv3.ProcessingRequest_RequestHeaders{
			RequestHeaders: &processorv3.HttpHeaders{Headers: &corev3.HeaderMap{}, EndOfStream: end},
		}}
	}
	chunk := func(end bool) *processorv3.ProcessingRequest {
		return &processorv3.ProcessingRequest{Request: &processorv3.ProcessingRequest_RequestBody{
			RequestBody: &processorv3.HttpBody{Body: []byte("x"), EndOfStream: end},
		}}
	}
	for _, messages := range [][]*processorv3.ProcessingRequest{
		{headers(true)},
		{headers(false), chunk(false), chunk(true)},
		{headers(false), chunk(false)}, // the client has left
	} {
		stream, err := processorv3.NewExternalProcessorClient(conn).Process(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Fatalf("error %v; want the stream's end", err)
		}
	}
	if n := counted.Value() - before; n != 2 {
		t.Errorf("%d requests counted; want 2", n)
	}
}

func TestServerAnswersForItsProducer(t *testing.T) {
	var got []string
	address := serving(t, func(l net.Listener) error {
		return serve(l, Config{Topic: "t"}, func(m *sarama.ProducerMessage) error {
			value, err := m.Value.Encode()
			got = append(got, m.Topic+" "+string(value))
			if string(value) == "bad" {
				err = errors.New("no")
			}
			return err
		})
	})
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		body   io.Reader
		status int
	}{
		{strings.NewReader("hello"), http.StatusOK},
		{nil, http.StatusOK},
		{strings.NewReader("bad"), http.StatusServiceUnavailable},
		{io.MultiReader(strings.NewReader("chunked")), http.StatusBadRequest},
	} {
		response, err := client.Post("http://"+address, "", c.body)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("%v: status %d; want %d", c.body, response.StatusCode, c.status)
		}
	}
	if diff := cmp.Diff([]string{"t hello", "t ", "t bad"}, got); diff != "" {
		t.Errorf("produced (-want +got):\n%s", diff)
	}
}
