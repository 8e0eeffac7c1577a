package ingest

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what this codec falls back to
	"google.golang.org/grpc/mem"
)

// frame receives a message as it came: in memory of its own, which records parsed from it point into for as long
// as they live. gRPC's buffers are pooled and would not do.
type frame struct {
	raw []byte
}

// codec is gRPC's own codec for protobuf, but hands the bytes of a message over when it is received into a frame.
type codec struct {
	encoding.CodecV2
}

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		f.raw = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
