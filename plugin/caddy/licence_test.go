package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// licences are the kinds that may go into somebody's Caddy: each asks for
// nothing but that its text comes along, MPL-2.0 also for the source of its own
// files. They are told by a sentence that the others have not.
var licences = []struct {
	kind string
	text *regexp.Regexp
}{
	{"Apache-2.0", regexp.MustCompile(`apache license,? version 2\.0`)},
	{"MPL-2.0", regexp.MustCompile(`mozilla public license,? version 2\.0`)},
	{"MIT", regexp.MustCompile(`permission is hereby granted, free of charge, to any person obtaining a copy`)},
	{"BSD", regexp.MustCompile(`redistribution and use in source and binary forms, with or without modification, are permitted`)},
	{"ISC", regexp.MustCompile(`permission to use, copy, modify, and(?:/or)? distribute this software for any purpose with or without fee is hereby granted`)},
	{"Unlicense", regexp.MustCompile(`this is free and unencumbered software released into the public domain`)},
	{"CC0-1.0", regexp.MustCompile(`cc0 1\.0 universal`)},
}

// unwelcome are what asks for more, or takes something away, wherever it stands;
// copyleft is what does by its title: MPL-2.0 names some of them further down.
var (
	unwelcome = regexp.MustCompile(`server side public license|business source license|commons clause|elastic license|sustainable use license|polyform`)
	copyleft  = regexp.MustCompile(`gnu (?:affero |lesser |library )?general public license`)
)

// kindOf is the licence that a text is, or an error.
func kindOf(text string) (string, error) {
	plain := strings.Join(strings.Fields(strings.Map(withoutMarks, strings.ToLower(text))), " ")
	if found := unwelcome.FindString(plain); found != "" {
		return "", fmt.Errorf("it is under the %s", found)
	}
	for _, licence := range licences {
		if at := licence.text.FindStringIndex(plain); at != nil && !copyleft.MatchString(plain[:at[0]]) {
			return licence.kind, nil
		}
	}
	return "", fmt.Errorf("its licence is none that we know: %.100q", plain)
}

// withoutMarks drops what comments and Markdown are drawn with.
func withoutMarks(r rune) rune {
	if strings.ContainsRune("*#>_=", r) {
		return ' '
	}
	return r
}

// part is a module that is compiled in.
type part struct{ path, version, dir string }

func partsOf(t *testing.T, pkg string) (parts []part) {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{or .Version \"-\"}} {{.Dir}}{{end}}", pkg).Output()
	if err != nil {
		t.Fatalf("listing what is compiled in: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	for _, line := range slices.Compact(lines) {
		path, rest, _ := strings.Cut(line, " ")
		version, dir, _ := strings.Cut(rest, " ")
		if path != "" {
			parts = append(parts, part{path, version, dir})
		}
	}
	return parts
}

var licenceFile = regexp.MustCompile(`(?i)^(?:un)?(?:licen[sc]e|copying)`)

// kinds are the licences of a module, by the files that say so.
func (p part) kinds() (kinds []string, err error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if entry.IsDir() || !licenceFile.MatchString(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(p.dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		kind, err := kindOf(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		}
		kinds = append(kinds, kind)
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("it has no licence")
	}
	return kinds, nil
}

func TestEverythingCompiledInMayBePassedOn(t *testing.T) {
	parts, count := partsOf(t, "."), map[string]int{}
	if len(parts) < 50 {
		t.Fatalf("found only %v", parts)
	}
	for _, part := range parts {
		kinds, err := part.kinds()
		if err != nil {
			t.Errorf("%s %s: %v", part.path, part.version, err)
		}
		for _, kind := range slices.Compact(kinds) {
			count[kind]++
		}
	}
	t.Logf("%d modules: %v", len(parts), count)
}

func TestLicenceThatAsksForMoreIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"The MIT License\n\nPermission is hereby granted, free of charge, to any\nperson obtaining a copy of": "MIT",
		"   Apache License\n   Version 2.0, January 2004":                                                     "Apache-2.0",
		"Mozilla Public License, version 2.0 … \"Secondary License\" means the GNU General Public License":    "MPL-2.0",
		"GNU GENERAL PUBLIC LICENSE\nVersion 3":                                                               "",
		"GNU AFFERO GENERAL PUBLIC LICENSE\nVersion 3":                                                        "",
		"\"Commons Clause\" License Condition v1.0\nApache License Version 2.0":                               "",
		"Business Source License 1.1":                                                                         "",
		"All rights reserved.":                                                                                "",
		"":                                                                                                    "",
	} {
		if got, err := kindOf(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%.40q is %q, %v", text, got, err)
		}
	}
	if _, err := (part{dir: t.TempDir()}).kinds(); err == nil {
		t.Error("a module without a licence passed")
	}
}
