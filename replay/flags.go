package replay

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/marceloboeira/crowd/xds/route"
)

// AddFlags defines a flag for each setting that has a place on a command line. Flags that are given replace what c has.
func (c *Config) AddFlags(f *flag.FlagSet) {
	list := func(values *[]string, name, usage string) { f.Var(&listFlag{values: values}, name, usage) }
	duration := func(d *route.Duration, name string, otherwise time.Duration, usage string) {
		f.Func(name, usage+fmt.Sprintf(" (default %v)", otherwise), func(s string) error { return d.UnmarshalText([]byte(s)) })
	}
	rate := func(r **Rate, name, usage string) {
		f.Func(name, usage, func(s string) error {
			*r = new(Rate)
			return (*r).UnmarshalText([]byte(s))
		})
	}
	number := func(n *int, name string, otherwise int, usage string) {
		f.Func(name, fmt.Sprintf("%s (default %d)", usage, otherwise), func(s string) error {
			given, err := strconv.ParseUint(s, 10, 31)
			if err != nil || given == 0 {
				return errors.New("want a whole number from 1 up")
			}
			*n = int(given)
			return nil
		})
	}
	list(&c.Kafka, "kafka", "Kafka's bootstrap servers, `host:port`, separated by commas")
	f.StringVar(&c.KafkaConfig, "kafka-config", c.KafkaConfig,
		"a client properties `file` with Kafka's names (security.protocol, sasl.mechanism, …)")
	f.StringVar(&c.Group, "group", c.Group, "the consumer `group`; its members share the partitions and the rate")
	list(&c.Topics, "topic", "the `topics` to replay, separated by commas")
	f.BoolVar(&c.FromDeadLetter, "from-dead-letter", c.FromDeadLetter, "send again what this group has given up of these topics, once")
	f.StringVar(&c.Since, "since", c.Since, "only requests received since then: an RFC 3339 `time`, or how long ago, for example 90m")
	f.StringVar(&c.Until, "until", c.Until, "only requests received before then, a `time` likewise; then end")
	f.Func("filter", "only requests that fit the `condition` route=NAME, key=KEY or header=NAME:VALUE; may be given several times", c.Filter.set)
	f.BoolVar(&c.Mirrored, "mirrored", c.Mirrored, "also send requests that were mirrored, which their upstream has had")
	f.StringVar(&c.Target, "target", c.Target, "the `URL` of the API, http:// or https://")
	f.Func("protocol", "`protocol`: auto, http1 or http2 (default auto)", func(s string) error { return c.Protocol.UnmarshalText([]byte(s)) })
	f.StringVar(&c.TLS.CA, "tls-ca", c.TLS.CA, "a PEM `file` with those whose certificate the target must have (default the system's)")
	f.StringVar(&c.TLS.Cert, "tls-cert", c.TLS.Cert, "a PEM `file` with this client's certificate")
	f.StringVar(&c.TLS.Key, "tls-key", c.TLS.Key, "a PEM `file` with its key")
	duration(&c.Timeout, "timeout", DefaultTimeout, "how long an attempt may take, a `duration`")
	rate(&c.Rate, "rate", "what the group sends at most: `requests` a second, 300/m, or unlimited")
	number(&c.Concurrency, "concurrency", DefaultConcurrency, "`requests` that this process has under way at most")
	rate(&c.KeyRate, "key-rate", "what is sent of one key of a topic at most: `requests` likewise (default unlimited)")
	f.BoolVar(&c.Adaptive, "adaptive", c.Adaptive, "have slow answers, 429 and 503 slow it down below rate and concurrency")
	f.Func("order", "what goes one after another: `key`, partition or none (default key)", func(s string) error { return c.Order.UnmarshalText([]byte(s)) })
	number(&c.Retry.MaxAttempts, "max-attempts", DefaultMaxAttempts, "`attempts` after which a request is given up")
	duration(&c.Retry.MaxAge, "max-age", 0, "how long after it was received a request is still sent, a `duration`; 0s: for ever")
	f.StringVar(&c.DeadLetterTopic, "dead-letter-topic", c.DeadLetterTopic, "the `topic` for what is given up (default "+DefaultDeadLetterTopic+")")
	f.StringVar(&c.Admin, "admin", c.Admin, "`address` for /metrics, /healthz, /readyz and /status (default "+DefaultAdmin+")")
	duration(&c.DrainTimeout, "drain-timeout", DefaultDrainTimeout, "how long to wait for answers after SIGTERM, a `duration`")
}

// listFlag is a flag of values separated by commas. The first time that it is given it replaces what was there.
type listFlag struct {
	values *[]string
	given  bool
}

func (l *listFlag) String() string { return "" }

func (l *listFlag) Set(s string) error {
	if !l.given {
		*l.values, l.given = nil, true
	}
	for value := range strings.SplitSeq(s, ",") {
		*l.values = append(*l.values, strings.TrimSpace(value))
	}
	return nil
}

// set takes a condition as a flag has it.
func (f *Filter) set(s string) error {
	kind, value, ok := strings.Cut(s, "=")
	switch {
	case ok && kind == "route":
		f.Routes = append(f.Routes, value)
	case ok && kind == "key":
		f.Keys = append(f.Keys, value)
	case ok && kind == "header":
		name, text, ok := strings.Cut(value, ":")
		condition := route.ValueMatch{Name: strings.TrimSpace(name)}
		if ok {
			condition.Exact = new(strings.TrimSpace(text))
		}
		if f.Match == nil {
			f.Match = new(route.Match)
		}
		f.Match.Headers = append(f.Match.Headers, condition)
	default:
		return errors.New("want route=NAME, key=KEY, header=NAME or header=NAME:VALUE")
	}
	return nil
}

// flagOf returns the flag for the field at path, as far as there is one.
func flagOf(path string) string {
	switch {
	case path == "topics":
		return "--topic"
	case strings.HasPrefix(path, "tls."):
		path = strings.ReplaceAll(path, ".", "-")
	case strings.HasPrefix(path, "filter"):
		return "--filter"
	}
	return "--" + strings.ReplaceAll(path[strings.LastIndexByte(path, '.')+1:], "_", "-")
}
