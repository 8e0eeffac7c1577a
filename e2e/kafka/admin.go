package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// adminTimeout is for one change.
const adminTimeout = 30 * time.Second

// Quota bounds what clients may produce, in bytes a second; 0 lifts the bound. Kafka delays what goes beyond it, and
// tells clients so.
func (b *Broker) Quota(bytesPerSecond int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), adminTimeout)
	defer cancel()
	client, err := b.client(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	altered, err := kadm.NewClient(client).AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id"}}, // without a name: the default of all
		Ops:    []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: float64(bytesPerSecond), Remove: bytesPerSecond == 0}},
	}})
	for _, a := range altered {
		err = errors.Join(err, a.Err)
	}
	if err != nil {
		b.t.Fatalf("kafka: a quota of %d bytes/s: %v", bytesPerSecond, err)
	}
}

// CreateTopic creates a topic of one partition with settings of its own.
func (b *Broker) CreateTopic(name string, settings map[string]string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), adminTimeout)
	defer cancel()
	client, err := b.client(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	pointers := map[string]*string{}
	for key, value := range settings {
		pointers[key] = &value
	}
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 1, 1, pointers, name); err != nil {
		b.t.Fatalf("kafka: creating topic %s: %v", name, err)
	}
}
