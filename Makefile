# What one can do here. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
GO ?= go
FUZZTIME ?= 30s
CHAOS ?= 10m
BENCH ?= launch ledger terminal drive telemetry

assets := web/console/assets
console_sources := $(wildcard $(assets)/src/*) $(assets)/build.mjs $(assets)/package.json $(assets)/package-lock.json
# NVIDIA's header marks calls as deprecated that go-nvml binds all the same.
export CGO_CFLAGS := -O2 -g -Wno-deprecated-declarations

.PHONY: help chaos deps test-deps generate build demo test lint fuzz torture bench
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

deps: ## install the Debian packages that building and running need
	@packaging/deps.sh run

test-deps:
	@packaging/deps.sh run test

generate: $(assets)/dist/manifest.json ## make what the binary embeds: pages, browser files, the programs in containers
	$(GO) tool templ generate -path web/console -log-level error
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o agent/keeper/embedded/ecolink-keeper ./cmd/ecolink-keeper
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o agent/keeper/embedded/ecolink-sftp ./cmd/ecolink-sftp

$(assets)/dist/manifest.json: $(console_sources)
	cd $(assets) && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

build: deps generate ## install what is missing and build bin/ecolink
	$(GO) build -trimpath -o bin/ecolink ./cmd/ecolink

demo: build ## start EcoLink here and walk through it; DEMO_EXIT=1 ends it afterwards
	$(GO) run ./packaging/demo

test: test-deps generate ## install what is missing, then run every test with the race detector
	$(GO) vet ./...
	$(GO) test -race -timeout 40m ./...

lint: generate ## formatting, vet and staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt: $$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

fuzz: generate ## fuzz every parser, FUZZTIME (30s) each
	@set -e; for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -h -o '^func Fuzz[A-Za-z0-9]*' $$dir/*_test.go | cut -c6-); do \
			echo "$$dir $$f"; $(GO) test -run='^$$' -fuzz="^$$f$$" -fuzztime=$(FUZZTIME) $$dir; done; done

torture: ## kill, cut the power, damage and fill up the ledger, many times (as root); prints what was checked
	ECOLINK_TORTURE=1 $(GO) test -count=1 -timeout 30m -v ./ledger/torture
	ECOLINK_TEST_LEASE_KILLS=200 $(GO) test -count=1 -timeout 10m -v -run Kill ./ledger/lease
	ECOLINK_SIM_WEEKS=26 $(GO) test -count=1 -timeout 20m -v -run WeeksOfBusiness ./scheduler
	$(GO) test -count=1 -timeout 10m -v -run TestLedgerDoes ./ledger -rapid.checks=1000

chaos: generate ## launch, write, attach and kill at random for CHAOS (10m) (as root); prints seed and counts
	ECOLINK_CHAOS=$(CHAOS) $(GO) test -count=1 -timeout 3h -v -run TestChaos ./cmd/ecolink/endtoend

bench: generate ## measure beside public peers: BENCH="launch ledger"
	@packaging/deps.sh run bench
	@failed=0; for subject in $(BENCH); do \
		echo "$$subject:"; $(GO) run ./cmd/ecolink-bench $$subject || failed=1; done; exit $$failed
