# vswitch: `make demo` shows it, `make test` proves it. Both install what they lack on a Debian machine with Go.

GO      ?= go
BIN     := bin
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X vswitch/internal/vswitch.Version=$(VERSION) -X main.release=$(VERSION)
FUZZTIME ?= 30s
VSWITCH_PORTS ?= 1000
SOAK_MINUTES ?= 60
SOAK_PORTS ?= 1000
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help build test test-vm race fuzz bench bench-quick ports datagrams soak lint fmt demo install deps clean

help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build vswitchd, vsctl and bench into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/vswitchd ./cmd/vsctl ./bench

deps: ## install the programs that tests and the demo call (Debian)
	@scripts/deps

test: deps build ## run all tests, as root those in network namespaces too
	$(GO) vet ./...
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run make fmt'; exit 1; }
	$(GO) test -count 1 -timeout 15m -p 2 ./...

test-vm: deps ## test uplinks of all kinds, SCTP and old ways to attach with Debian's own kernel (VM_RELEASES) in a virtual machine
	@scripts/test-vm $(VM_RELEASES)

race: deps ## run all tests under the race detector
	$(GO) test -race -timeout 30m -p 1 ./...

fuzz: ## fuzz each target for FUZZTIME (30s)
	@scripts/fuzz $(FUZZTIME)

bench: deps build ## compare with kernel bridge, veth and a naive pump; writes bench/RESULTS.md
	$(BIN)/bench --json bench/results.json --svg bench/results.svg --markdown bench/RESULTS.md

bench-quick: deps build ## the same in a few minutes, printed only
	$(BIN)/bench --quick

ports: deps ## what 1000 ports cost (VSWITCH_PORTS), beside what the kernel alone takes
	VSWITCH_PORTS=$(VSWITCH_PORTS) $(GO) test -count 1 -timeout 60m -v -run TestManyPorts ./internal/vswitch

datagrams: deps ## a million datagrams each way through masquerade and published ports, IPv4 and IPv6, counted
	VSWITCH_DATAGRAMS=1000000 $(GO) test -count 1 -timeout 30m -v -run TestDatagramsCounted ./internal/vswitch

soak: deps ## 1000 ports (SOAK_PORTS) come and go under traffic for an hour (SOAK_MINUTES); nothing may be left of them
	SOAK_PORTS=$(SOAK_PORTS) SOAK_SECONDS=$$(($(SOAK_MINUTES) * 60)) \
		$(GO) test -count 1 -timeout $$(($(SOAK_MINUTES) + 30))m -v -run TestSoak ./internal/vswitch

lint: ## run the linters of .golangci.yml
	$(GO) run $(GOLANGCI) run ./...

fmt: ## format all Go files
	gofmt -w .

demo: deps build ## four containers, pings, routes, iperf3 beside a kernel bridge; cleans up; under two minutes
	@scripts/demo

install: build ## install programs, completion, documentation and the systemd unit below PREFIX (/usr/local)
	install -D -m 0755 $(BIN)/vswitchd $(DESTDIR)$(PREFIX)/sbin/vswitchd
	install -D -m 0755 $(BIN)/vsctl $(DESTDIR)$(PREFIX)/bin/vsctl
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)/etc/systemd/system
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/vswitch README.md CHANGELOG.md LICENSE
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/vswitch/docs docs/*.md
	$(BIN)/vsctl completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/vsctl
	sed 's|/usr/local|$(PREFIX)|' packaging/vswitchd.service > $(DESTDIR)/etc/systemd/system/vswitchd.service

clean: ## remove what was built
	rm -rf $(BIN)
