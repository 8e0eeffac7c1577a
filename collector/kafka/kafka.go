// Package kafka says how crowd's processes reach a Kafka cluster: the bootstrap addresses and, in a properties
// file with the names of Kafka's own clients, how a connection is secured. The collector, `crowd tail` and
// `crowd replay` share it; what they do over the connection is their own.
package kafka

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
)

// sarama measures much of every request, for a registry that nobody here reads.
func init() { metrics.UseNilMetrics = true }

// Config says how to reach a cluster.
type Config struct {
	// Brokers are the addresses to begin with, host:port. At least one is required; the cluster says where its
	// other brokers are.
	Brokers []string
	// PropertiesFile is the path of a client.properties file (see Properties). Empty: plaintext without
	// authentication.
	PropertiesFile string
	// ClientID is how brokers name this client in quotas and logs; default "crowd".
	ClientID string
}

// Validate returns everything that is wrong with the configuration, including the properties file.
func (c Config) Validate() error {
	_, err := c.Sarama()
	return err
}

// Sarama returns a client configuration that connects as c says; everything else has sarama's defaults, except:
//
//   - The protocol is that of Kafka 2.8: the newest that every Kafka from 2.8 to 4.x speaks (4.0 and later refuse
//     what is older than 2.1), and all that crowd needs.
//   - Only the topics in use are asked for, not those of the whole cluster.
//   - A broker that swallows packets is given up after 10 s when connecting, and after 15 s when it owes an answer:
//     longer than it may take to gather acknowledgements from replicas (10 s).
func (c Config) Sarama() (*sarama.Config, error) {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("kafka: no broker given"))
	}
	for _, b := range c.Brokers {
		if err := checkAddress(b); err != nil {
			errs = append(errs, fmt.Errorf("kafka: broker %q: %w", b, err))
		}
	}
	s := sarama.NewConfig()
	s.Version = sarama.V2_8_0_0
	s.ClientID = c.ClientID
	if c.ClientID == "" {
		s.ClientID = "crowd"
	}
	s.Metadata.Full = false
	s.Net.DialTimeout = 10 * time.Second
	s.Net.ReadTimeout = 15 * time.Second
	if c.PropertiesFile != "" {
		if err := applyFile(s, c.PropertiesFile); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func applyFile(s *sarama.Config, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("kafka: reading the properties file: %w", err)
	}
	p, err := ParseProperties(string(text))
	if err == nil {
		err = p.apply(s)
	}
	if err != nil {
		return fmt.Errorf("kafka: properties file %s: %w", path, err)
	}
	return nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("not host:port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if host == "" {
		return errors.New("no host")
	}
	return nil
}
