package throttle

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneLineInEachPeriodThatCountsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := New(slog.New(slog.NewTextHandler(&out, nil)))
		for range 5 {
			l.Warn("trouble")
		}
		time.Sleep(Every)
		l.Warn("trouble")
		time.Sleep(Every)
		l.Warn("trouble")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 || !strings.HasSuffix(lines[0], "msg=trouble") ||
			!strings.HasSuffix(lines[1], "omitted=4") || !strings.HasSuffix(lines[2], "msg=trouble") {
			t.Errorf("logged %q", lines)
		}
	})
}
