package peer

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/collector/kafka"
)

// maxMessage lets bodies of 1 MiB through.
const maxMessage = 4 << 20

// producer is set up as the collector's is.
func producer(c Config) (*sarama.Config, error) {
	s, err := kafka.Config{Brokers: []string{c.Kafka}, ClientID: "peer"}.Sarama()
	if err != nil {
		return nil, err
	}
	s.Net.MaxOpenRequests = 1
	s.Producer.Idempotent = true
	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Producer.Compression = sarama.CompressionLZ4
	s.Producer.MaxMessageBytes = maxMessage
	s.Producer.Return.Errors = true
	return s, nil
}

func serveAsync(l net.Listener, c Config) error {
	settings, err := producer(c)
	if err != nil {
		return err
	}
	p, err := sarama.NewAsyncProducer([]string{c.Kafka}, settings)
	if err != nil {
		return fmt.Errorf("async: %w", err)
	}
	go func() {
		for err := range p.Errors() {
			slog.Error("a record is lost", "error", err)
		}
	}()
	return serve(l, c, func(m *sarama.ProducerMessage) error {
		p.Input() <- m
		return nil
	})
}

func serveSync(l net.Listener, c Config) error {
	settings, err := producer(c)
	if err != nil {
		return err
	}
	settings.Producer.Return.Successes = true
	p, err := sarama.NewSyncProducer([]string{c.Kafka}, settings)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return serve(l, c, func(m *sarama.ProducerMessage) error {
		_, _, err := p.SendMessage(m) // sarama makes batches of what many handlers send at the same time
		return err
	})
}

// serve answers POSTs when produce has returned.
func serve(l net.Listener, c Config, produce func(*sarama.ProducerMessage) error) error {
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 || r.ContentLength > maxMessage {
			http.Error(w, "no such length", http.StatusBadRequest)
			return
		}
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, body)
		if err == nil || errors.Is(err, io.EOF) && len(body) == 0 {
			err = produce(&sarama.ProducerMessage{Topic: c.Topic, Value: sarama.ByteEncoder(body)})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("content-type", "application/json;charset=UTF-8")
		_, _ = io.WriteString(w, `{"status":"OK"}`)
	}))
}
