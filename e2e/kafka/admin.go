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
	b.change("a quota", func(ctx context.Context, admin *kadm.Client) error {
		altered, err := admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{
			Entity: kadm.ClientQuotaEntity{{Type: "client-id"}}, // without a name: the default of all
			Ops: []kadm.AlterClientQuotaOp{
				{Key: "producer_byte_rate", Value: float64(bytesPerSecond), Remove: bytesPerSecond == 0},
			},
		}})
		for _, a := range altered {
			err = errors.Join(err, a.Err)
		}
		return err
	})
}

// CreateTopic creates a topic of one partition with settings of its own.
func (b *Broker) CreateTopic(name string, settings map[string]string) {
	b.t.Helper()
	pointers := map[string]*string{}
	for key, value := range settings {
		pointers[key] = &value
	}
	b.change("topic "+name, func(ctx context.Context, admin *kadm.Client) error {
		_, err := admin.CreateTopic(ctx, 1, 1, pointers, name)
		return err
	})
}

// DeleteTopic deletes a topic. Its files go a moment later, unless the broker has log.segment.delete.delay.ms=0.
func (b *Broker) DeleteTopic(name string) {
	b.t.Helper()
	b.change("deleting topic "+name, func(ctx context.Context, admin *kadm.Client) error {
		_, err := admin.DeleteTopic(ctx, name)
		return err
	})
}

func (b *Broker) change(what string, do func(context.Context, *kadm.Client) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), adminTimeout)
	defer cancel()
	client, err := b.client(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	if err := do(ctx, kadm.NewClient(client)); err != nil {
		b.t.Fatalf("kafka: %s: %v", what, err)
	}
}
