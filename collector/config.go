package collector

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/internal/spool"
	"github.com/marceloboeira/crowd/collector/kafka"
)

// What a Config gets where it says nothing.
const (
	DefaultListen         = ":9001"
	DefaultAdmin          = ":9002"
	DefaultMaxBufferBytes = 256 << 20
	DefaultDrainTimeout   = 25 * time.Second

	DefaultDeadLetterTopic = "crowd-dead-letters"

	DefaultSpool         = "/var/lib/crowd/spool"
	DefaultSpoolMaxBytes = 10 << 30
	DefaultSpoolMinFree  = 1 << 30
)

// NoDeadLetterTopic is the Config.DeadLetterTopic that says that there is none.
const NoDeadLetterTopic = "off"

// NoSpool is the Config.Spool that says that there is none.
const NoSpool = "off"

const (
	leastBuffer = 1 << 20 // holds a sensible batch
	leastSpool  = 8 << 20 // holds many of them
	mostBytes   = 1 << 50 // of any size: what is reckoned with it stays far from the end of the numbers
)

// Config configures a Collector.
type Config struct {
	// Listen is the address for uplinks (gRPC, plaintext: encryption is the mesh's), host:port; default ":9001".
	Listen string
	// Admin is the address for /metrics, /healthz and /readyz (HTTP); default ":9002".
	Admin string
	// Name is how the collector calls itself towards uplinks; default the host's name.
	Name string
	// Kafka is the cluster to store records in.
	Kafka kafka.Config
	// Compression of what is produced, one of Kafka's compression.type: none, gzip, snappy, lz4, zstd; default lz4.
	Compression string
	// DeadLetterTopic takes the records that their own topics will never take (too large, say), with the reason in
	// their headers; default "crowd-dead-letters". It must exist, as other topics must: until it does, such records
	// wait. NoDeadLetterTopic: they are refused by name; those that came by the spool are set aside there, and tried again
	// at the next start.
	DeadLetterTopic string
	// MaxBufferBytes bounds the batches received and not yet acknowledged, over all uplinks: those that ask for Kafka
	// until that has them, others until they are synced to disk; default 256 MiB, at least 1 MiB. What is on disk and on
	// its way to Kafka may take a quarter of it on top. A record on its way takes a few times its size in memory.
	MaxBufferBytes int64
	// Spool is the directory for what is to be safe before Kafka has it, which is made if need be; default
	// "/var/lib/crowd/spool". NoSpool: everything waits in memory and in the uplinks until Kafka has it, and no route
	// can ask for level disk.
	Spool string
	// SpoolMaxBytes bounds what waits in the spool; default 10 GiB, at least 8 MiB. Its directory grows by up to a
	// half more. A single batch that is larger goes to Kafka from memory.
	SpoolMaxBytes int64
	// SpoolMinFree is what the spool leaves free on its disk, in bytes; default 1 GiB.
	SpoolMinFree int64
	// DrainTimeout is how long Run tries to have Kafka take what it has when it is told to end; default 25s, below the
	// 30s that Kubernetes waits.
	DrainTimeout time.Duration
}

// withDefaults returns c with every field filled in.
func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Admin == "" {
		c.Admin = DefaultAdmin
	}
	if c.Name == "" {
		c.Name, _ = os.Hostname() // for people: nothing depends on it
	}
	if c.DeadLetterTopic == "" {
		c.DeadLetterTopic = DefaultDeadLetterTopic
	}
	if c.MaxBufferBytes == 0 {
		c.MaxBufferBytes = DefaultMaxBufferBytes
	}
	if c.Spool == "" {
		c.Spool = DefaultSpool
	}
	if c.SpoolMaxBytes == 0 {
		c.SpoolMaxBytes = DefaultSpoolMaxBytes
	}
	if c.SpoolMinFree == 0 {
		c.SpoolMinFree = DefaultSpoolMinFree
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	return c
}

// Validate returns everything that is wrong with the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	errs := []error{c.produce().Validate()}
	for _, a := range []struct{ name, address string }{{"listen", c.Listen}, {"admin", c.Admin}} {
		if _, _, err := net.SplitHostPort(a.address); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not host:port", a.name, a.address))
		}
	}
	if c.MaxBufferBytes < leastBuffer {
		errs = append(errs, fmt.Errorf("max buffer: %d bytes is less than 1 MiB", c.MaxBufferBytes))
	}
	if c.SpoolMaxBytes < leastSpool {
		errs = append(errs, fmt.Errorf("spool: %d bytes are less than 8 MiB", c.SpoolMaxBytes))
	}
	if c.SpoolMinFree < 0 {
		errs = append(errs, fmt.Errorf("spool: %d bytes to be left free are less than none", c.SpoolMinFree))
	}
	for _, size := range []struct {
		name  string
		bytes int64
	}{{"max buffer", c.MaxBufferBytes}, {"spool", c.SpoolMaxBytes}, {"spool, to be left free", c.SpoolMinFree}} {
		if size.bytes > mostBytes {
			errs = append(errs, fmt.Errorf("%s: %d bytes are more than 1 PiB", size.name, size.bytes))
		}
	}
	if c.DrainTimeout < 0 {
		errs = append(errs, fmt.Errorf("drain timeout: %v is negative", c.DrainTimeout))
	}
	return errors.Join(errs...)
}

func (c Config) produce() produce.Config {
	p := produce.Config{Kafka: c.Kafka, Compression: c.Compression, DeadLetterTopic: c.DeadLetterTopic}
	if p.DeadLetterTopic == NoDeadLetterTopic {
		p.DeadLetterTopic = ""
	}
	return p
}

func (c Config) spool() spool.Config {
	return spool.Config{
		Dir: c.Spool, MaxBytes: c.SpoolMaxBytes, MinFree: c.SpoolMinFree, MaxMemoryBytes: c.MaxBufferBytes / 4,
	}
}
