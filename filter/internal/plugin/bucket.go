package plugin

import (
	"time"

	"github.com/marceloboeira/crowd/xds/route"
)

// bucket is what a worker keeps of a route's rate limit. An interval begins when the bucket is no longer full.
type bucket struct {
	limits route.TokenBucket
	tokens int
	filled time.Duration // when the present interval began
}

// newBucket returns a full one.
func newBucket(limits route.TokenBucket) *bucket {
	return &bucket{limits: limits, tokens: limits.MaxTokens}
}

// take takes a token and returns 0, or how long it is until there is one. The time must not fall.
func (b *bucket) take(now time.Duration) (wait time.Duration) {
	interval := time.Duration(b.limits.FillInterval)
	if b.tokens < b.limits.MaxTokens {
		fills := (now - b.filled) / interval
		b.filled += fills * interval
		if missing := b.limits.MaxTokens - b.tokens; fills > time.Duration(missing/b.limits.TokensPerFill) {
			b.tokens = b.limits.MaxTokens
		} else {
			b.tokens += int(fills) * b.limits.TokensPerFill
		}
	}
	switch b.tokens {
	case 0:
		return b.filled + interval - now
	case b.limits.MaxTokens:
		b.filled = now
	}
	b.tokens--
	return 0
}

// bucketKey names a bucket over changes of the configuration.
type bucketKey struct{ filter, route string }

// bucket returns that of a filter's rule, nil where nothing limits it. It goes on where the route had the same limits
// before.
func (v *VM) bucket(filter string, rule *route.Rule) *bucket {
	if rule.RateLimit == nil {
		return nil
	}
	key := bucketKey{filter, rule.Name}
	b := v.buckets[key]
	if b == nil || b.limits != *rule.RateLimit {
		b = newBucket(*rule.RateLimit)
		v.buckets[key] = b
	}
	return b
}

// keepBuckets forgets those of a filter's routes that are not among these.
func (v *VM) keepBuckets(filter string, routes []route.Route) {
	if len(v.buckets) == 0 {
		return
	}
	names := make(map[string]bool, len(routes))
	for i := range routes {
		names[routes[i].Name] = true
	}
	for key := range v.buckets {
		if key.filter == filter && !names[key.route] {
			delete(v.buckets, key)
		}
	}
}
