package oauth

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Check asks the token endpoint whether it answers: with a refusal, since it is
// sent nothing. date is the time by the server's clock, zero where it does not
// tell.
func (p *party) Check(ctx context.Context) (date time.Time, err error) {
	answer, err := provider.Reach(ctx, p.client, http.MethodPost, p.at.TokenURL, maxAnswer)
	if err != nil {
		return date, err
	}
	if answer.Status == http.StatusNotFound || answer.Status == http.StatusGone {
		return date, provider.Unavailable("%s answered %d: is that the token endpoint?", p.at.TokenURL, answer.Status)
	}
	return answer.Date, nil
}
