SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.NOTPARALLEL:

PREFIX   ?= /usr/local
FUZZTIME ?= 15s
SEEDS    ?= 20000
OVERLOAD ?= 5m
OUT      ?= bin/bench
BENCH    ?=
GROWTH   ?=
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# One way to compile, in which the linter, bin/crowd and most tests share what Go's build cache has.
export GOFLAGS     := $(GOFLAGS) -trimpath
export CGO_ENABLED := 0

golangci := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
compose  := docker compose --file examples/docker-compose/compose.yaml
# Everything but the end-to-end tests, which need the two binaries, Kafka and Envoy.
units     = $$(go list ./... | grep -v '/e2e')

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } /^[a-z0-9]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

##@ Build

.PHONY: build bin/crowd bin/crowd.wasm
build: bin/crowd bin/crowd.wasm ## Build bin/crowd and bin/crowd.wasm

# Phony although they are files: go knows better than make when they are stale.
bin/crowd:
	go build -ldflags '-s -w -X main.version=$(VERSION)' -o $@ .

bin/crowd.wasm:
	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags '-s -w' -o $@ ./filter
	go run ./filter/trim $@

.PHONY: install
install: build ## Install into $(PREFIX): bin/crowd, lib/crowd/crowd.wasm
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib/crowd'
	install -m 0755 bin/crowd '$(DESTDIR)$(PREFIX)/bin/crowd'
	install -m 0644 bin/crowd.wasm '$(DESTDIR)$(PREFIX)/lib/crowd/crowd.wasm'

.PHONY: run
run: build ## Run the whole of crowd on this machine (bin/crowd dev)
	bin/crowd dev

.PHONY: circle
circle: build ## Run the whole circle: a burst, answered at once, that an API then gets at 50 requests a second
	go run ./examples/circle

.PHONY: clean
clean: ## Remove what build made
	rm -rf bin

##@ Test

# The tests that follow are not vetted once more: lint does that.

.PHONY: test
test: unit e2e ## Run all tests: unit, then end-to-end

.PHONY: unit
unit: ## Run the unit tests, under the race detector
	CGO_ENABLED=1 go test -vet=off -race -p 3 -parallel 8 -timeout 5m $(units)

.PHONY: e2e
e2e: build ## Run the end-to-end tests: real Envoy, real Kafka, real processes
	go test -vet=off -count=1 -p 2 -parallel 3 -timeout 20m -skip '^Test(Faults|Replay)' ./e2e/...
	go test -vet=off -count=1 -parallel 4 -timeout 10m -run '^Test(Faults|Replay)' ./e2e # these mostly wait

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (15s)
	grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's|/[^/]+:func | |' \
	| while read -r package target; do \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package"; \
	done

.PHONY: soak
soak: ## Run the uplink's simulation with SEEDS (20000) random networks, and let a hundredth as many spools crash
	go test -timeout 10m -run TestSimulation ./filter/internal/uplink -seeds $(SEEDS)
	go test -timeout 10m -run TestCrash ./collector/internal/spool -seeds $$(( $(SEEDS) / 100 ))

.PHONY: faults
faults: build ## Run the faults with outages as long as in the README's table
	go test -count=1 -timeout 10m -v -run TestFaults ./e2e -long

.PHONY: control
control: build ## Change routes 500 times under load, and take each xDS server away for a minute
	go test -count=1 -timeout 10m -v -run 'TestGroupsChangeUnderLoad|TestServersStandInForEachOther' ./e2e -long

.PHONY: overload
overload: build ## Offer three times what Kafka takes for OVERLOAD (5m)
	go test -count=1 -timeout 10m -v -run TestOverload ./e2e -overload $(OVERLOAD)

.PHONY: replay
replay: build ## Run replay's tests with 100,000 records and longer outages, and measure how fast it is
	go test -count=1 -timeout 10m -parallel 4 -v -run '^TestReplay' ./e2e -long
	go test -run '^$$' -bench BenchmarkReplay -benchtime 1x -timeout 10m ./e2e

.PHONY: bench
bench: build ## Measure crowd beside Envoy alone, ext_proc and plain Go; BENCH='-bodies 0,16384' (-help lists all), OUT=bin/bench
	go build -ldflags '-X main.version=$(VERSION)' -o bin/bench/bench ./e2e/bench
	bin/bench/bench -out '$(OUT)' $(BENCH)

.PHONY: micro
micro: ## Run the Go benchmarks
	go test -run '^$$' -bench . -benchmem $(units)

.PHONY: profile
profile: ## Show where the filter's time goes on V8, and which host calls a request makes (Node)
	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o bin/named.wasm ./filter
	go run ./filter/trim bin/named.wasm
	node --no-liftoff filter/profile/profile.mjs bin/named.wasm

.PHONY: cost
cost: build ## Compare what requests cost Envoy with the filter and without
	go test -run '^$$' -bench BenchmarkPassThrough -benchtime 1x -timeout 10m ./e2e

.PHONY: growth
growth: build ## Measure what grows with routes, uplinks, collectors, backlog and time; GROWTH='-bench Growth/time -steady 10m'
	go test -run '^$$' -bench '^BenchmarkGrowth$$' -benchtime 1x -timeout 60m ./e2e $(GROWTH)

##@ Keep in order

# The content of the work tree under git's name for it, dirty or not, without touching the index.
worktree = dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	export GIT_INDEX_FILE="$$dir/index"; git add --all; git write-tree

.PHONY: check
check: ## Generate, tidy, format and lint; fail if that changes a file
	@before=$$($(worktree)); \
	$(MAKE) generate tidy format; \
	after=$$($(worktree)); \
	if [ "$$before" != "$$after" ]; then \
		git --no-pager diff --stat "$$before" "$$after"; \
		echo 'make check: these files were not up to date; now they are' >&2; \
		exit 1; \
	fi
	$(MAKE) lint
	go test ./examples/docker-compose

.PHONY: generate
generate: ## Generate code
	go generate ./...

.PHONY: tidy
tidy:
	go mod tidy

.PHONY: format
format: ## Format the code
	go run $(golangci) fmt

# Twice, as the filter has files that only its own platform sees. The linter is told of that platform, and still
# runs on this one; tests run on this one only.
.PHONY: lint
lint: ## Lint the code
	go run $(golangci) run
	go run -exec 'env GOOS=wasip1 GOARCH=wasm' $(golangci) run --tests=false ./filter/...

##@ Try it in containers

.PHONY: compose
compose: ## Start Envoy, Kafka and crowd in containers and wait until they are ready
	$(compose) up --build --detach --wait

.PHONY: decompose
decompose: ## Remove those containers and their data
	$(compose) down --volumes
