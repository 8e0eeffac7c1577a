package request

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

const (
	// maxKept is how much of an answer an outcome has.
	maxKept = 1 << 10
	// maxRead is how much of one is read for the connection's sake. A longer one costs the connection.
	maxRead = 64 << 10
	// maxReason bounds what goes into logs and headers; errors may repeat what the other side has sent.
	maxReason = 512
)

// answered is the outcome of an answer whose headers have arrived. An expected one is taken at its word, whether or not
// the rest of it arrives. Any other counts as none unless it arrives whole.
func (s *Sender) answered(ctx, limited context.Context, response *http.Response) flow.Outcome {
	defer response.Body.Close()
	status := response.StatusCode
	if status == http.StatusSwitchingProtocols { // its body would be the connection
		return flow.Outcome{Verdict: flow.Failed, Status: status, Reason: "answered 101, to another protocol that nobody has asked for"}
	}
	begin, err := readAnswer(response.Body)
	o := flow.Outcome{Status: status, Answer: begin, RetryAfter: retryAfter(response.Header.Get("Retry-After"), time.Now())}
	if s.config.Expected(status) {
		o.Verdict = flow.Delivered
		return o
	}
	o.Reason = strings.TrimSpace(fmt.Sprintf("answered %d %s", status, http.StatusText(status)))
	switch {
	case err != nil && ctx.Err() != nil:
		o.Verdict = flow.Canceled
	case err != nil && limited.Err() != nil:
		o.Verdict, o.Reason = flow.Failed, fmt.Sprintf("%s, but not all of it within %v", o.Reason, s.config.Timeout)
	case err != nil:
		o.Verdict, o.Reason = flow.Failed, reason(fmt.Sprintf("%s, but not all of it: %v", o.Reason, err))
	case s.config.Retriable(status):
		o.Verdict = flow.Failed
	default:
		o.Verdict = flow.Rejected
		if location := response.Header.Get("Location"); status/100 == 3 && location != "" {
			o.Reason = reason(fmt.Sprintf("%s to %q, and redirects are not followed", o.Reason, location))
		}
	}
	return o
}

var buffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// readAnswer reads a body to its end, or to maxRead, and returns how it begins.
func readAnswer(body io.Reader) (begin []byte, err error) {
	buffer := buffers.Get().(*[4 << 10]byte)
	defer buffers.Put(buffer)
	for read := 0; read < maxRead; {
		n, err := body.Read(buffer[:])
		read += n
		if room := maxKept - len(begin); room > 0 && n > 0 {
			begin = append(begin, buffer[:min(n, room)]...)
		}
		if errors.Is(err, io.EOF) {
			return begin, nil
		}
		if err != nil {
			return begin, err
		}
	}
	return begin, nil
}

// retryAfter reads the Retry-After of RFC 9110, section 10.2.3: seconds, or a date. It returns 0 for anything else, and
// for the past.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(math.MaxInt64/time.Second) {
			return math.MaxInt64
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, at.Sub(now))
}

// reason makes a text fit for an outcome: valid UTF-8 on one line, and not all of a long one.
func reason(text string) string {
	if len(text) > maxReason {
		text = text[:maxReason] + "..."
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
}
