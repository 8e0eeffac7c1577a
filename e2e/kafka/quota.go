package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// quotaTimeout is for one change.
const quotaTimeout = 30 * time.Second

// Quota bounds what clients may produce, in bytes a second; 0 lifts the bound. Kafka delays what goes beyond it, and
// tells clients so.
func (b *Broker) Quota(bytesPerSecond int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), quotaTimeout)
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
