package header

import (
	"net/http"
	"net/textproto"
	"strings"
)

// stripConnection removes what Connection nominates and reduces it to close,
// keep-alive and upgrade. reverse_proxy removes nominated fields after us:
// "Connection: close, Remote-Groups" would take away what Block.Set wrote, and
// an app would see a signed-in person without it.
//
// Only an upgrade to WebSocket is left: after any other, h2c above all, the
// client talks to the app and no longer to us.
func (g *Guard) stripConnection(h http.Header) {
	lines, upgrade := h["Connection"], h["Upgrade"]
	if upgrade == nil && isUsual(lines) {
		return
	}
	c := connection{upgrades: len(upgrade) == 1 && is(upgrade[0], "websocket")}
	c.read(lines)
	if !c.upgrade {
		delete(h, "Upgrade")
	}
	if !c.unusual {
		return
	}
	for _, line := range lines {
		g.stripNominated(h, line)
	}
	c.write(h)
}

// isUsual reports whether there is nothing to do, for what browsers send.
func isUsual(lines []string) bool {
	return len(lines) == 0 || len(lines) == 1 && (lines[0] == "keep-alive" || lines[0] == "close")
}

// stripNominated deletes the fields that one Connection line names.
func (g *Guard) stripNominated(h http.Header, line string) {
	for more := true; more; {
		var option string
		option, line, more = strings.Cut(line, ",")
		if option = textproto.TrimString(option); option != "" && !g.travels.has(option) {
			h.Del(option)
		}
	}
}

// connection is what a request's Connection header asks for.
type connection struct {
	upgrades bool // Upgrade names a protocol that we allow

	close, keepAlive, upgrade bool

	// unusual is set where something else is in it.
	unusual bool
}

func (c *connection) read(lines []string) {
	for _, line := range lines {
		for more := true; more; {
			var option string
			option, line, more = strings.Cut(line, ",")
			c.option(option)
		}
	}
}

func (c *connection) option(s string) {
	switch {
	case is(s, "keep-alive"):
		c.keepAlive = true
	case is(s, "close"):
		c.close = true
	case is(s, "upgrade") && c.upgrades:
		c.upgrade = true
	default:
		c.unusual = true
	}
}

// write puts down what is left. The slice is new: handlers change headers in
// place.
func (c *connection) write(h http.Header) {
	var options []string
	if c.close {
		options = append(options, "close")
	}
	if c.keepAlive {
		options = append(options, "keep-alive")
	}
	if c.upgrade {
		options = append(options, "Upgrade")
	}
	delete(h, "Connection")
	if options != nil {
		h["Connection"] = []string{strings.Join(options, ", ")}
	}
}

// is compares a list's element to a token, without case and outer spaces.
func is(element, token string) bool {
	return strings.EqualFold(textproto.TrimString(element), token)
}
