# SPDX-License-Identifier: GPL-2.0-or-later

.DEFAULT_GOAL := help

VERSION   ?= $(shell .ci/version)
ARGS      ?=
FUZZTIME  ?= 10s
BENCH     ?= .
TESTFLAGS ?=

prefix     ?= /usr/local
bindir     ?= $(prefix)/bin
sysconfdir ?= /etc
DESTDIR    ?=

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The end-to-end tests make network namespaces, which takes root: the test
# binaries, but not the compiler, run through sudo for other users.
TESTEXEC := $(if $(filter-out 0,$(shell id -u)),-exec 'sudo -E')

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## Build bin/apt-dht
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o bin/apt-dht ./cmd/apt-dht

.PHONY: run
run: build ## Build and run a node as this user; ARGS='--quota 5GiB' adds flags
	@echo 'Point apt at this node from another terminal:'
	@echo '  sudo apt -o Acquire::http::Proxy=http://127.0.0.1:9977 update'
	@echo 'or, until you remove the file:'
	@echo '  sudo cp packaging/apt.conf.d/30apt-dht /etc/apt/apt.conf.d/'
	@exec bin/apt-dht serve $(ARGS)

# Simulations of hours in package dht crash the race detector's own runtime in Go
# 1.26 (ThreadSanitizer: CHECK failed, or SIGSEGV in an idle synctest bubble), so
# that package is tested without it. One package after the other: apt, the mirrors
# and their clocks are real, and two packages at a time would starve each other.
.PHONY: test
test: packages vet ## Run every test, real apt included; installs the Debian packages of .ci/packages
	go test -race -p 1 -timeout 20m $(TESTEXEC) $(TESTFLAGS) $$(go list ./... | grep -v '/dht$$')
	go test -timeout 20m $(TESTEXEC) $(TESTFLAGS) ./dht

.PHONY: packages
packages:
	.ci/install-packages

.PHONY: vet
vet:
	go vet ./...

.PHONY: lint
lint: vet ## Check format, vet and staticcheck
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	$(STATICCHECK) ./...

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME (10s)
	.ci/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## Run the benchmarks; BENCH=regexp chooses
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: deb
deb: build ## Build dist/apt-dht_VERSION_ARCH.deb
	packaging/deb $(VERSION)

.PHONY: install
install: ## Install what is in bin/ (make build); DESTDIR and prefix apply
	@[ -x bin/apt-dht ] || { echo "There is no bin/apt-dht: run 'make build' first, as an ordinary user."; exit 1; }
	install -Dm755 bin/apt-dht $(DESTDIR)$(bindir)/apt-dht
	install -d $(DESTDIR)$(prefix)/lib/systemd/system
	sed 's|/usr/bin/|$(bindir)/|' packaging/apt-dht.service >$(DESTDIR)$(prefix)/lib/systemd/system/apt-dht.service
	sed 's|/usr/bin/|$(bindir)/|' packaging/apt-dht-dht-node.service >$(DESTDIR)$(prefix)/lib/systemd/system/apt-dht-dht-node.service
	install -m644 packaging/apt-dht.socket $(DESTDIR)$(prefix)/lib/systemd/system/apt-dht.socket
	install -Dm644 packaging/sysusers.conf $(DESTDIR)$(prefix)/lib/sysusers.d/apt-dht.conf
	install -Dm644 packaging/apt.conf.d/30apt-dht $(DESTDIR)$(prefix)/share/apt-dht/30apt-dht
	install -d $(DESTDIR)$(prefix)/lib/apt-dht
	sed 's|/usr/bin/|$(bindir)/|' packaging/detect >$(DESTDIR)$(prefix)/lib/apt-dht/detect
	chmod 755 $(DESTDIR)$(prefix)/lib/apt-dht/detect
	sed 's|/usr/lib/|$(prefix)/lib/|' packaging/apt.conf.d/30apt-dht-detect >$(DESTDIR)$(prefix)/share/apt-dht/30apt-dht-detect
	[ -e $(DESTDIR)$(sysconfdir)/apt-dht/apt-dht.toml ] || install -Dm644 packaging/apt-dht.toml $(DESTDIR)$(sysconfdir)/apt-dht/apt-dht.toml

.PHONY: uninstall
uninstall: ## Remove what install has put there, but the configuration and the data
	rm -f $(DESTDIR)$(bindir)/apt-dht $(DESTDIR)$(prefix)/lib/systemd/system/apt-dht.service \
		$(DESTDIR)$(prefix)/lib/systemd/system/apt-dht-dht-node.service \
		$(DESTDIR)$(prefix)/lib/systemd/system/apt-dht.socket $(DESTDIR)$(prefix)/lib/sysusers.d/apt-dht.conf
	rm -rf $(DESTDIR)$(prefix)/share/apt-dht $(DESTDIR)$(prefix)/lib/apt-dht

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist
