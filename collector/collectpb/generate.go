// Package collectpb is the contract between uplinks and collectors: the gRPC service of collector.proto and
// the code generated from it.
//
// The generated Go code is for collectors, tests and other implementations. The filter does not link it: it
// speaks the same bytes through package record.
package collectpb

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 lint
