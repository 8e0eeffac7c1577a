package peer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what rawCodec falls back to
	"google.golang.org/grpc/mem"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
)

const (
	sinkWindow = 64 << 20
	// heartbeat is how often the protocol asks for a window.
	heartbeat = time.Second
)

func serveSink(l net.Listener, _ Config) error {
	s := grpc.NewServer(
		grpc.ForceServerCodecV2(rawCodec{encoding.GetCodecV2("proto")}), grpc.MaxRecvMsgSize(record.MaxMessageBytes),
		// As a collector's.
		grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connectionWindow),
	)
	collectpb.RegisterCollectorServer(s, sink{})
	return s.Serve(l)
}

type sink struct {
	collectpb.UnimplementedCollectorServer
}

// Collect acknowledges every batch with the highest level, as soon as it has counted its records.
func (sink) Collect(stream grpc.BidiStreamingServer[collectpb.UplinkMessage, collectpb.CollectorMessage]) error {
	var sending sync.Mutex
	send := func(m *collectpb.CollectorMessage) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(m)
	}
	window := &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Window{Window: &collectpb.Window{Bytes: sinkWindow}}}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	go func() {
		for {
			select {
			case <-beat.C:
				_ = send(window) // the reader sees the end
			case <-stream.Context().Done():
				return
			}
		}
	}()
	for {
		var raw rawMessage
		if err := stream.RecvMsg(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		message, err := record.ParseUplinkMessage(raw)
		if err != nil {
			return fmt.Errorf("sink: %w", err)
		}
		answer := &collectpb.CollectorMessage{}
		switch {
		case message.Hello != nil:
			instance := record.NewUplinkID()
			answer.Message = &collectpb.CollectorMessage_Welcome{Welcome: &collectpb.Welcome{
				Levels:      []collectpb.Level{collectpb.Level_LEVEL_DISK, collectpb.Level_LEVEL_KAFKA},
				WindowBytes: sinkWindow, Collector: Sink, Version: record.Version, Instance: instance[:],
			}}
		case message.Batch != nil:
			counted.Add(int64(len(message.Batch.Records)))
			answer.Message = &collectpb.CollectorMessage_Ack{Ack: &collectpb.Ack{
				Sequence: message.Batch.Sequence, Level: collectpb.Level_LEVEL_KAFKA,
			}}
		default:
			continue
		}
		if err := send(answer); err != nil {
			return err
		}
	}
}

// rawMessage receives a message as it came.
type rawMessage []byte

// rawCodec is gRPC's own for protobuf, but for raw messages.
type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if raw, ok := v.(*rawMessage); ok {
		*raw = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
