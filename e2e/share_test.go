package e2e

import (
	"testing"
	"time"
)

// TestAStuckTopicHoldsUpNoOther writes to a topic that does not exist until requests for it are shed, while another topic
// goes on as if nothing was; then the topic is made, and has everything.
func TestAStuckTopicHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{
		"spool":    {"--spool-max-bytes", "8MiB"},
		"diskless": {"--spool", "off", "--max-buffer-bytes", "8MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := ownKafka(t, map[string]string{"auto.create.topics.enable": "false"})
			for _, l := range levels {
				broker.CreateTopic("free-"+l, nil)
			}
			s := newStackOn(t, broker, faultRoutes([]string{"stuck", "free"}), 1, flags...)
			loads := map[[2]string]*traffic{}
			for route, connections := range map[[2]string]int{
				{"free", "memory"}: 2, {"free", "kafka"}: 2, {"stuck", "memory"}: 16, {"stuck", "kafka"}: 2,
			} {
				loads[route] = startTraffic(t, s.base, "/"+route[0]+"/"+route[1], connections, faultPace, faultLargest)
			}
			s.eventually("the stuck topic is shed", func() bool { return s.stat("crowd.shed.topic_closed") > 200 })
			loads[[2]string{"free", "memory"}].flows(t, 200)
			loads[[2]string{"free", "kafka"}].flows(t, 200)
			answers := map[[2]string][]answer{}
			for route, load := range loads {
				answers[route] = load.end()
			}
			for _, l := range levels {
				s.kafka.CreateTopic("stuck-"+l, nil)
			}
			s.settled()
			for route, all := range answers {
				topic := route[0] + "-" + route[1]
				ok, shed, failed := tally(all)
				o := verify(t, s.kafka, topic, "/"+route[0]+"/"+route[1], all, faultLargest)
				t.Logf("%s: %d answered, %d shed, %d failed, p99 %v; %+v", topic, ok, shed, failed, percentile(all, 0.99), o)
				if route[0] == "free" && shed+failed > 0 || failed > 0 {
					t.Errorf("%s: %d shed, %d failed", topic, shed, failed)
				}
			}
		})
	}
}

// TestANewCollectorGetsItsShare starts a third collector beside two that have all the streams.
func TestANewCollectorGetsItsShare(t *testing.T) {
	t.Parallel()
	s := newStack(t, absorbRoutes, 3)
	third := s.collectors[2]
	third.kill()
	tr := startTraffic(t, s.base, "/leads", 4, 10*time.Millisecond, 1000)
	tr.flows(t, 100)
	third.start()
	began := time.Now()
	s.eventually("the new collector has records", func() bool {
		third.observe()
		return total(t, third.counted[len(third.counted)-1], "crowd_stored_total", nil) > 100
	})
	t.Logf("the new collector had its first 100 records after %v", time.Since(began).Round(time.Second))
	answers := tr.end()
	allAnswered(t, answers)
	s.settled()
	if o := verify(t, s.kafka, "leads", "/leads", answers, 1000); o.repeats > 0 {
		t.Errorf("%d repeats", o.repeats)
	}
}
