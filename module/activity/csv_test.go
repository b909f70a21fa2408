package activity_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caddy-login/caddy-login/module/activity"
)

func written(t testing.TB, header bool, entries ...activity.Entry) string {
	t.Helper()
	var out bytes.Buffer
	if err := activity.CSV(&out, entries, header); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCSV(t *testing.T) {
	e := activity.Entry{
		At: time.Date(2026, 5, 1, 14, 0, 0, 0, time.FixedZone("", 7200)), What: activity.SignInFailed, Row: "A2", Provider: "corp", Detail: `a "b", c`,
		Device: "Firefox", Place: "Köln", Session: "s", RequestID: "r", Failed: true,
	}
	want := "at,what,row,provider,detail,device,place,session,request_id,failed\r\n" +
		"2026-05-01T12:00:00Z,sign_in_failed,A2,corp,\"a \"\"b\"\", c\",Firefox,Köln,s,r,true\r\n"
	if got := written(t, true, e); got != want {
		t.Errorf("%q", got)
	}
	if got := written(t, false); got != "" {
		t.Errorf("of nothing comes %q", got)
	}
}

func TestCSVHoldsNoFormula(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		"=1+1":                "'=1+1",
		"+1":                  "'+1",
		"-1":                  "'-1",
		"@SUM(A1)":            "'@SUM(A1)",
		"\t=1":                "' '=1",
		"\tplain":             "' plain",
		"\r=1":                "' '=1",
		" =1":                 " '=1",
		"＝1":                  "'＝1",
		"\u00a0=1":            "\u00a0'=1",
		"\u200b=1":            "\u200b'=1",
		"a;=cmd|'/C calc'!A0": "a;'=cmd|'/C calc'!A0",
		"a\n=1":               "a '=1",
		`"=1"`:                `"'=1"`,
		"a=1 b-c d@e.com":     "a=1 b-c d@e.com",
		"a•••@e•••.com":       "a•••@e•••.com",
		"Firefox on Linux":    "Firefox on Linux",
	} {
		rows, err := csv.NewReader(strings.NewReader(written(t, false, activity.Entry{At: noon, Detail: in}))).ReadAll()
		if err != nil || rows[0][4] != want {
			t.Errorf("%q becomes %q, %v; want %q", in, rows[0][4], err, want)
		}
	}
}

// Whatever a stranger wrote, and however a spreadsheet parts the cells, none
// begins as a formula does; and there are as many rows and cells as there
// should be.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{"=1", "a;=1", "a\r\n=1", "\"=1\"", "\u200b=1", "＝1", ";\";=1", ",\t-1", "\xff=1", "'=1", "a,=1", "\"\n\"=1"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, detail, device string) {
		out := written(t, false, activity.Entry{At: noon, What: activity.SignedIn, Detail: detail, Device: device})
		rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		if err != nil || len(rows) != 1 || len(rows[0]) != 10 || strings.Count(out, "\r\n") != 1 {
			t.Fatalf("%q is read as %q, %v", out, rows, err)
		}
		isBlank := func(c rune) bool { return c == '"' || unicode.IsSpace(c) || !unicode.IsGraphic(c) }
		for cell := range strings.FieldsFuncSeq(out, func(c rune) bool { return strings.ContainsRune(";,\r\n\t", c) }) {
			cell = strings.TrimLeftFunc(cell, isBlank)
			if cell != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(cell)[0]) {
				t.Fatalf("cell %q of %q", cell, out)
			}
		}
	})
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestCSVTellsThatItCouldNotBeWritten(t *testing.T) {
	if err := activity.CSV(full{}, []activity.Entry{at(0)}, true); err == nil {
		t.Error("no error")
	}
}
