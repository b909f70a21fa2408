# make run     a demo to sign in to, on http://localhost
# make test    everything a change must pass; installs what the tests need
# make soak    the gates that must hold for long: an hour and a half, the last half
#              hour for all outages at once; FLAGS='-rounds 50 -for 1m' has it shorter
# make bench   the scoreboard: what requests, log-ins, streams and millions of sessions
#              cost, beside plain Caddy, and which targets are held; 25 minutes
# make lint    gofmt, go vet, staticcheck
# make fuzz    every fuzz target in turn, each for FUZZTIME (30s)
# make vuln    known vulnerabilities in what is compiled in; asks vuln.go.dev, or
#              VULNDB, such as file:///usr/share/vulndb
#
# With CI=true a test that had to be skipped is a failure; that the database of
# vulnerabilities cannot be reached is none.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := test

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.8.0
VULNDB ?= https://vuln.go.dev
FUZZTIME ?= 30s
PROVIDER := module/logintest/oidcprovider
LOG := bin/test.log
SOAK := bin/soak.log
GATES := ^Test(WhatWasAnsweredOutlivesKill|StoppingUnderLoadNeitherPanicsNorLies|ReloadsUnderLoadLoseNothing|ReloadsDropNoMoreThanThoseOfPlainCaddy|IdleReloadsLeaveNothingBehind|FullDiskIsSurvived|.*WorkOnceAmong64|.*WorksOnceAmong64|ClockMayJump|SignedInOutlive.*)$$
FLAGS ?=

export CGO_ENABLED := 1
export DEBIAN_FRONTEND := noninteractive

.PHONY: run test soak bench lint fuzz vuln tools

run:
	go run ./examples/demo

bench:
	go run ./plugin/caddy/bench

# The end-to-end tests build Caddy with the race detector, too. Their own
# limits are a minute a step; the timeout here is for what hangs. Tests that run
# beside each other are those that wait for a clock.
test: tools lint vuln
	@mkdir -p $(dir $(LOG))
	@status=0; \
	go test -race -v -parallel 8 -timeout 55m ./... 2>&1 | tee $(LOG) || status=$$?; \
	.ci/summary $(LOG) && exit $$status

# One line of figures for each gate, "held" or "BROKEN"; all else is in the log.
# The eight outages run beside each other, after all else: they wait for a clock.
soak:
	@mkdir -p $(dir $(LOG))
	@status=0; \
	go test -v -parallel 8 -timeout 0 -run '$(GATES)' ./plugin/caddy -args -soak $(FLAGS) >$(SOAK) 2>&1 || status=$$?; \
	grep -E ' gate Test|^(--- FAIL|FAIL|ok|PASS)|^    --- FAIL|\[build failed\]' $(SOAK) || true; \
	exit $$status

lint:
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

# Which targets there are, go test says. `test` runs their seeds, and what was
# found worth keeping: testdata/fuzz of each package.
fuzz:
	@.ci/fuzz $(FUZZTIME)

# The one part of `test` that asks the network what is new today. A machine that
# cannot reach the database says so.
vuln:
	@.ci/vuln $(GOVULNCHECK) $(VULNDB)

tools:
	@.ci/tools cc gcc libc6-dev
	@.ci/tools chromium chromium
	@.ci/tools npm nodejs npm
	@.ci/tools nginx nginx-light
	@.ci/tools haproxy haproxy
	@.ci/tools /usr/lib/python3/dist-packages/jwt python3 python3-jwt python3-cryptography
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(PROVIDER)/node_modules/.package-lock.json; fi

$(PROVIDER)/node_modules/.package-lock.json: $(PROVIDER)/package-lock.json
	cd $(PROVIDER) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@
