package mail

import (
	"strings"
	"time"
)

// betweenWarnings keeps a dead server from filling the log, too.
const betweenWarnings = time.Minute

// warn tells, now and then, that mail can't be sent at the moment.
func (q *Queue) warn(j *job, err error) {
	q.mu.Lock()
	waiting, due := len(q.jobs), q.warned.IsZero() || time.Since(q.warned) >= betweenWarnings
	if due {
		q.warned = time.Now()
	}
	q.mu.Unlock()
	if due {
		q.log.Warn("mail can't be sent at the moment and is tried again until it expires", "waiting", waiting, "error", q.plain(j, err))
	}
}

// plain is an error without the address it is about, and with neither subject
// nor text of the mail, should a mailer quote them: they hold the code.
func (q *Queue) plain(j *job, err error) string {
	text := err.Error()
	for _, private := range []string{j.Subject, j.Text, j.To} {
		if private != "" {
			text = strings.ReplaceAll(text, private, "[…]")
		}
	}
	return text
}
