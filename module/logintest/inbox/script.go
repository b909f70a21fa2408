package inbox

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Stage is a moment of the conversation (RFC 5321 section 3) in which a server
// has something to answer.
type Stage string

// The stages in their order. End is the dot after the mail.
const (
	Greeting Stage = "greeting"
	EHLO     Stage = "EHLO"
	STARTTLS Stage = "STARTTLS"
	AUTH     Stage = "AUTH"
	MAIL     Stage = "MAIL"
	RCPT     Stage = "RCPT"
	DATA     Stage = "DATA"
	End      Stage = "end of DATA"
)

// Answers that are none.
const (
	// Silence says nothing for as long as the test runs.
	Silence = "\x00silence"
	// HangUp closes the connection.
	HangUp = "\x00hang up"
	// Endless says a line that has no end; only a scripted server can.
	Endless = "\x00endless"
)

// answer is a line of SMTP: a code of an error, and some text.
var answer = regexp.MustCompile(`^[45]\d\d .`)

// Say has the server answer like this from now on, at this stage: Silence,
// HangUp, or an error such as "450 4.2.0 later". A scripted server says
// anything. Empty is the usual answer again.
func (i *Inbox) Say(stage Stage, text string) {
	i.t.Helper()
	known := text == "" || text == Silence || text == HangUp || answer.MatchString(text)
	if !i.scripted && (!known || stage == Greeting || stage == STARTTLS || stage == DATA) {
		i.t.Fatalf("only a scripted server says %q at %s", text, stage)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answers[stage] = text
}

// Reached is how often a client came to this stage. Of Greeting, STARTTLS and
// DATA only a scripted server knows.
func (i *Inbox) Reached(stage Stage) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.reached[stage]
}

// arrive counts that somebody reached a stage, and returns what to say there.
func (i *Inbox) arrive(stage Stage) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.reached[stage]++
	return i.answers[stage]
}

// Script is what a scripted server says, byte for byte without the last line
// break, where it isn't the usual answer.
type Script map[Stage]string

// Scripted opens a server with STARTTLS that follows a script, and ends with
// the test. It is raw: whatever the client sends is taken as well-formed.
func Scripted(t testing.TB, script Script) *Inbox {
	t.Helper()
	i := open(t, Options{})
	i.scripted = true
	for stage, text := range script {
		i.Say(stage, text)
	}
	var clients sync.WaitGroup
	i.listen(false, func(l net.Listener) {
		defer clients.Wait()
		defer i.cutOff()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			clients.Go(func() { i.act(conn) })
		}
	})
	return i
}

// actor is one client's conversation with a scripted server.
type actor struct {
	i    *Inbox
	conn net.Conn
	r    *bufio.Reader
	mail Mail
}

var errHungUp = errors.New("hung up")

func (i *Inbox) act(conn net.Conn) {
	defer conn.Close()
	a := &actor{i: i, conn: conn, r: bufio.NewReader(conn)}
	_, err := a.say(Greeting, "220 inbox.test ESMTP")
	for err == nil {
		err = a.next()
	}
}

// next reads one command and answers it.
func (a *actor) next() error {
	line, err := a.r.ReadString('\n')
	if err != nil {
		return err
	}
	verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch stage := Stage(strings.ToUpper(verb)); stage {
	case EHLO:
		_, err = a.say(EHLO, a.extensions())
	case STARTTLS:
		err = a.startTLS()
	case AUTH:
		_, err = a.say(AUTH, "235 2.7.0 welcome")
	case MAIL:
		a.mail.From = address(rest)
		_, err = a.say(MAIL, "250 2.1.0 ok")
	case RCPT:
		a.mail.To = append(a.mail.To, address(rest))
		_, err = a.say(RCPT, "250 2.1.5 ok")
	case DATA:
		err = a.data()
	case "QUIT":
		_ = a.write("221 2.0.0 bye")
		err = errHungUp
	default:
		err = a.write("250 2.0.0 ok")
	}
	return err
}

func (a *actor) extensions() string {
	if _, over := a.conn.(*tls.Conn); over {
		return "250-inbox.test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN"
	}
	return "250-inbox.test\r\n250-8BITMIME\r\n250 STARTTLS"
}

// startTLS goes on in TLS wherever it was told to say yes.
func (a *actor) startTLS() error {
	said, err := a.say(STARTTLS, "220 2.0.0 go ahead")
	if err != nil || !strings.HasPrefix(said, "220") {
		return err
	}
	over := tls.Server(a.conn, a.i.tls)
	if err := over.Handshake(); err != nil {
		return err
	}
	a.conn, a.r, a.mail.TLS = over, bufio.NewReader(over), true
	return nil
}

func (a *actor) data() error {
	said, err := a.say(DATA, "354 go ahead")
	if err != nil || !strings.HasPrefix(said, "354") {
		return err
	}
	var raw bytes.Buffer
	for {
		line, err := a.r.ReadBytes('\n')
		if err != nil {
			return err
		}
		if bytes.Equal(line, []byte(".\r\n")) {
			break
		}
		raw.Write(bytes.TrimPrefix(line, []byte("."))) // RFC 5321 section 4.5.2
	}
	return a.end(raw.Bytes())
}

func (a *actor) end(raw []byte) error {
	said, err := a.say(End, "250 2.0.0 accepted")
	mail := a.mail
	a.mail = Mail{TLS: mail.TLS}
	if err != nil || !strings.HasPrefix(said, "250") {
		return err
	}
	mail.Raw = raw
	if err := mail.parse(); err != nil {
		return err
	}
	a.i.keep(mail)
	return nil
}

// say answers as the script has it, or else as usual, and returns which.
func (a *actor) say(stage Stage, usual string) (string, error) {
	text := a.i.arrive(stage)
	switch text {
	case "":
		return usual, a.write(usual)
	case Silence:
		<-a.i.closed
		return "", errHungUp
	case HangUp:
		return "", errHungUp
	case Endless:
		return "", a.babble()
	default:
		return text, a.write(text)
	}
}

func (a *actor) write(text string) error {
	_, err := io.WriteString(a.conn, text+"\r\n")
	return err
}

// babble ends when the client has had enough.
func (a *actor) babble() error {
	noise := bytes.Repeat([]byte("2"), 64<<10)
	for {
		if _, err := a.conn.Write(noise); err != nil {
			return err
		}
	}
}

// address is what stands between the angle brackets.
func address(argument string) string {
	_, rest, _ := strings.Cut(argument, "<")
	inner, _, _ := strings.Cut(rest, ">")
	return inner
}
