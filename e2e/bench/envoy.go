package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"text/template"

	"go.yaml.in/yaml/v4"

	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/xds"
)

//go:embed envoy.yaml.tmpl
var envoyText string

var envoyTemplate = template.Must(template.New("envoy").Parse(envoyText))

// answeringEnvoy is the bootstrap of an Envoy that answers by itself; where processor is not empty, bodies go there too.
func answeringEnvoy(processor string) ([]byte, error) {
	var host, port string
	if processor != "" {
		var err error
		if host, port, err = net.SplitHostPort(processor); err != nil {
			return nil, err
		}
	}
	var text bytes.Buffer
	if err := envoyTemplate.Execute(&text, map[string]any{"Listener": xds.GatewayListener, "Processor": processor != "", "Host": host, "Port": port}); err != nil {
		return nil, err
	}
	var doc any
	if err := yaml.Load(text.Bytes(), &doc); err != nil {
		return nil, fmt.Errorf("envoy.yaml.tmpl: %w", err)
	}
	return json.Marshal(doc)
}

// startEnvoy starts one with a single worker, and waits until it takes requests.
func (s *system) startEnvoy(ctx context.Context, path string, bootstrap []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p, err := envoy.Start(ctx, envoy.ProcessConfig{Path: path, Bootstrap: bootstrap, Concurrency: 1, Log: os.Stderr, LogLevel: "error"})
	if err != nil {
		return err
	}
	s.onStop(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return p.Stop(ctx)
	})
	s.processes[envoyProcess] = p.PID()
	err = p.Ready(ctx)
	if err == nil {
		s.address, err = p.ListenerAddr(ctx, xds.GatewayListener)
	}
	if err != nil {
		return fmt.Errorf("an envoy that does not listen: %w", errors.Join(err, p.Err()))
	}
	return nil
}
