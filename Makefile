# What one can do here. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
GO ?= go

.PHONY: help deps generate build test lint fuzz
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

deps: ## install the Debian packages that building and testing need
	@packaging/deps.sh

generate: ## build the keeper that the main binary embeds
	@if [ -d cmd/ecolink-keeper ]; then CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o agent/keeper/embedded/ecolink-keeper ./cmd/ecolink-keeper; fi

build: generate ## compile everything
	$(GO) build ./...

test: deps generate ## install what is missing, then run every test with the race detector
	$(GO) vet ./...
	$(GO) test -race -timeout 20m ./...

lint: ## formatting and vet
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt: $$out"; exit 1; fi
	$(GO) vet ./...
