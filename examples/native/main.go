// Command native is an app on somebody's own device that signs them in by the
// system's browser (RFC 8252), and calls a backend behind the site as them.
package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	app := &App{Site: cmp.Or(os.Getenv("SITE"), "https://app.example.com"), Client: http.DefaultClient}
	if err := app.SignIn(ctx, cmp.Or(os.Getenv("PROVIDER"), "google"), openBrowser); err != nil {
		log.Fatalf("signing in: %v", err)
	}
	fmt.Printf("You are %s. Type a path, refresh, or out.\n", app.Who)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		done, err := app.obey(ctx, strings.TrimSpace(lines.Text()))
		if err != nil {
			log.Print(err)
		}
		if done {
			return
		}
	}
}

// obey does what was typed.
func (a *App) obey(ctx context.Context, word string) (done bool, err error) {
	switch word {
	case "out":
		return true, a.SignOut(ctx)
	case "refresh":
		return false, a.Refresh(ctx)
	default:
		text, err := a.Get(ctx, word)
		fmt.Println(text)
		return false, err
	}
}

// openBrowser opens the system's own: what is typed there, the app never sees.
// Where none opens, people open the address themselves.
func openBrowser(address string) {
	fmt.Printf("Sign in by your browser: %s\n", address)
	command := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		command = []string{"open"}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	if browser := os.Getenv("BROWSER"); browser != "" {
		command = []string{browser}
	}
	_ = exec.Command(command[0], append(command[1:], address)...).Start()
}
