# The few commands that matter; `make help` lists them. Nothing here needs more than Rust, a C compiler and make.
#
# Everything uses cargo's dev profile: dependencies are optimised, our own crates compile in seconds, and what `make
# run` built is not built again by `make test`.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TIDINGS := $(TARGET_DIR)/debug/tidings

DATA ?= data/demo
LISTEN ?= 127.0.0.1:8390
SERVER ?= http://$(LISTEN)
AS ?= alice

.DEFAULT_GOAL := help
.PHONY: help run chat build release test bench-verify planted blackbox

help:
	@echo "make run             start a server with demo data on $(LISTEN); it keeps its data in $(DATA)"
	@echo "                     another port: make run LISTEN=127.0.0.1:8391 (the same LISTEN for make chat)"
	@echo "make chat AS=alice   chat as a demo user: alice or bob, one per terminal"
	@echo "make test            format, lints, every test, the direction of dependencies, the house rules"
	@echo "make build           build without running; make release: the optimised binary"
	@echo "make bench-verify    200 devices for 60 s while the server is killed every 7 s; checks every promise"
	@echo "make planted         the same checker must find each deliberate fault (docs/testing.md)"
	@echo "make blackbox        two terminals talk through a server that is killed in between"

run: build
	@echo "data: $(DATA) (a second 'make run' finds it again; delete the folder to start afresh)"
	@exec $(TIDINGS) serve --demo --data $(DATA) --listen $(LISTEN)

chat: build
	@exec $(TIDINGS) chat --as $(AS) --server $(SERVER)

build:
	@cargo build -p tidings

release:
	@cargo build -p tidings --release

test:
	@scripts/test.sh

bench-verify: build
	$(TIDINGS) bench verify --devices 200 --conversations 40 --seconds 60 --kill-every 7

planted:
	@scripts/planted.sh

blackbox: build
	@scripts/blackbox-two-people.sh $(TIDINGS)
