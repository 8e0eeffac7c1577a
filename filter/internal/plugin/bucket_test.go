package plugin

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/xds/route"
)

func limit(maxTokens, tokensPerFill int, interval time.Duration) route.TokenBucket {
	return route.TokenBucket{MaxTokens: maxTokens, TokensPerFill: tokensPerFill, FillInterval: route.Duration(interval)}
}

func TestTokenBucket(t *testing.T) {
	const s = time.Second
	type step struct{ at, wait time.Duration }
	for name, c := range map[string]struct {
		limits route.TokenBucket
		steps  []step
	}{
		"one at a time": {limit(1, 1, s), []step{
			{0, 0}, {0, s}, {s / 4, 3 * s / 4}, {s, 0}, {s, s}, {10 * s, 0}, {10*s + 1, s - 1}, {11 * s, 0},
		}},
		"full at first, whatever the clock says": {limit(2, 1, s), []step{{7 * s, 0}, {7 * s, 0}, {7 * s, s}, {8 * s, 0}, {8 * s, s}}},
		"an interval begins with the token that a full bucket gives": {limit(2, 2, 10*s), []step{
			{9 * s, 0}, {9 * s, 0}, {10 * s, 9 * s}, {19*s - 1, 1}, {19 * s, 0}, {19 * s, 0}, {19 * s, 10 * s},
		}},
		"intervals go on while it is not full": {limit(3, 1, 10*s), []step{
			{0, 0}, {5 * s, 0}, {12 * s, 0}, {13 * s, 0}, {14 * s, 6 * s}, {20 * s, 0}, {20 * s, 10 * s},
		}},
		"a fill that does not fit is cut": {limit(3, 2, s), []step{{0, 0}, {s, 0}, {s, 0}, {s, 0}, {s, s}, {2 * s, 0}, {2 * s, 0}, {2 * s, s}}},
		"the largest, after the longest":  {limit(1_000_000_000, 1_000_000_000, 24*time.Hour), []step{{0, 0}, {1<<63 - 1, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(c.limits)
			for i, step := range c.steps {
				if wait := b.take(step.at); wait != step.wait {
					t.Fatalf("step %d, at %v: wait %v, want %v", i, step.at, wait, step.wait)
				}
			}
		})
	}
}

// TestTokenBucketAgainstCounting compares a bucket with one that counts every interval.
func TestTokenBucketAgainstCounting(t *testing.T) {
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		interval := time.Duration(1 + rnd.IntN(20))
		limits := limit(1+rnd.IntN(10), 1+rnd.IntN(12), interval)
		b, tokens, next := newBucket(limits), limits.MaxTokens, time.Duration(0)
		var now time.Duration
		var taken []time.Duration
		for range 300 {
			now += time.Duration(rnd.IntN(1 + rnd.IntN(2*int(interval))))
			for tokens < limits.MaxTokens && now >= next {
				tokens = min(tokens+limits.TokensPerFill, limits.MaxTokens)
				next += interval
			}
			if tokens == limits.MaxTokens {
				next = now + interval
			}
			want := next - now
			if tokens > 0 {
				tokens, want = tokens-1, 0
			}
			wait := b.take(now)
			if wait != want {
				t.Fatalf("seed %d, %+v, at %d: wait %d, want %d", seed, limits, now, wait, want)
			}
			if wait == 0 {
				taken = append(taken, now)
			}
		}
		for i := range taken { // what the limit is for
			for j := i; j < len(taken); j++ {
				intervals := int((taken[j]-taken[i])/interval) + 1
				if n := j - i + 1; n > limits.MaxTokens+intervals*limits.TokensPerFill {
					t.Fatalf("seed %d, %+v: %d taken within %d", seed, limits, n, taken[j]-taken[i])
				}
			}
		}
	}
}

// TestWhoWaitsAsLongAsTheBucketSaysGetsAToken is what Retry-After promises to a client that is alone.
func TestWhoWaitsAsLongAsTheBucketSaysGetsAToken(t *testing.T) {
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		b := newBucket(limit(1+rnd.IntN(10), 1+rnd.IntN(12), time.Duration(1+rnd.IntN(20))))
		var now time.Duration
		for range 300 {
			now += time.Duration(rnd.IntN(3))
			if wait := b.take(now); wait > 0 {
				if now += wait; b.take(now) != 0 {
					t.Fatalf("seed %d, %+v: no token at %d, after %d", seed, b.limits, now, wait)
				}
			}
		}
	}
}
