package activity

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

var columns = []string{"at", "what", "row", "provider", "detail", "device", "place", "session", "request_id", "failed"}

// CSV writes entries as RFC 4180 has it, with a first line of names where
// header is set. Times are UTC. What a spreadsheet would take for a formula has
// an apostrophe before it: the names of devices and accounts are strangers'
// words.
func CSV(w io.Writer, entries []Entry, header bool) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	if header {
		_ = out.Write(columns) // Error tells
	}
	for _, e := range entries {
		_ = out.Write(e.cells())
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("writing CSV: %w", err)
	}
	return nil
}

func (e *Entry) cells() []string {
	cells := []string{
		e.At.UTC().Format(time.RFC3339), string(e.What), e.Row, e.Provider, e.Detail,
		e.Device, e.Place, e.Session, e.RequestID, strconv.FormatBool(e.Failed),
	}
	for i, cell := range cells {
		cells[i] = disarm(cell)
	}
	return cells
}

// disarm puts an apostrophe before what would begin a formula: =, +, -, @ and
// their wide forms, where a cell begins. In some languages the semicolon parts
// cells, and a careless reader begins one anew after a line break. Blanks and
// quotation marks before the sign hide nothing: they may be trimmed away.
func disarm(cell string) string {
	var out strings.Builder
	begins := true
	for i, c := range cell {
		isControl := unicode.IsControl(c)
		if begins && strings.ContainsRune("=+-@＝＋－＠", c) || i == 0 && isControl {
			out.WriteByte('\'')
		}
		if isControl {
			c = ' '
		}
		out.WriteRune(c)
		begins = isControl || parts(c) || begins && isBlank(c)
	}
	return out.String()
}

func parts(c rune) bool { return c == ';' || c == ',' }

func isBlank(c rune) bool { return c == '"' || unicode.IsSpace(c) || !unicode.IsGraphic(c) }
