package produce

import (
	"errors"
	"log/slog"
	"math/rand/v2"

	"github.com/IBM/sarama"
)

// deadLetterLooks is how often the dead-letter topic is asked for before it is missed. The first time has it created
// where the brokers do that, which takes them up to a second.
const deadLetterLooks = 5

// checkDeadLetters says in the log if the dead-letter topic cannot be written: nobody else would, until a record has to
// wait for it. What other trouble there is its lane will tell.
func (s *sender) checkDeadLetters(topic string, log *slog.Logger) {
	var err error
	for looks := 1; ; looks++ {
		err = s.checkTopic(topic, true)
		if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) && !errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
			return
		}
		if looks == deadLetterLooks {
			break
		}
		if !s.sleep(backoff(looks, rand.Float64())) {
			return
		}
	}
	log.Error("the dead-letter topic is not there, or not to be written by this principal: records that their own topic "+
		"does not take will wait until it is; create it, name another with --dead-letter-topic, or pass --dead-letter-topic off",
		"topic", topic, "error", err)
}
