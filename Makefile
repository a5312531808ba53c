# Two commands: `make serve` and `make test`; `make help` lists the rest. Everything they install goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: serve test types help test-long bench bench-peers soak load engines mutation coverage constraints clean

serve: $(VENV)/.serve  ## install what serving needs, and serve the shipped model until Ctrl-C
	@exec $(BIN)/newsdesk serve

test: $(VENV)/.test  ## install what testing needs; check style and types; test all but what takes minutes by itself
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory types
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder  # in the groups of tests/conftest.py

types: $(VENV)/.test  ## check the types
	@mkdir -p .cache/types/newsdesk  # the folders under their import names, which mypy can't read off the install
	@for part in build clients server; do ln -sfn ../../../$$part .cache/types/newsdesk/$$part; done
	MYPYPATH=.cache/types $(BIN)/mypy -p newsdesk.server -p newsdesk.clients -p newsdesk.build

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

test-long: $(VENV)/.test  ## two minutes of soak, one of chaos, and the steps of the CPU image in a bare environment
	$(BIN)/python -m pytest -m long

bench: $(VENV)/.test  ## what each quality costs, what Triton costs, what the gateway costs
	for part in qualities through_triton gateway; do \
		$(BIN)/python -m benchmarks.$$part $(if $(TEXTS),--texts $(TEXTS)) || exit; \
	done

# TEXTS is a CSV file with title and description; without it, articles are put together in the lengths of news.
bench-peers: $(VENV)/.test  ## the same loads through other servers, each installed by itself (TEXTS=…)
	$(BIN)/python -m benchmarks.peers $(if $(TEXTS),--texts $(TEXTS)) --write benchmarks/results/peers.md

# A TEXTS file as above is optional.
soak: $(VENV)/.test  ## ten minutes of 256 clients on the loopback, every answer checked
	$(BIN)/python -m benchmarks.soak $(if $(TEXTS),--texts $(TEXTS))

# Locust, headless, against a server of its own: REST, then gRPC. Profiles: steady, spike, soak, open (RATE requests a
# second instead of USERS). Ends with an error where the objective is not kept.
LOAD_PROFILE ?= steady
USERS ?= 200
SECONDS ?= 120
RATE ?= 50
P99_MS ?= 2000
load: $(VENV)/.load  ## Locust against a server of its own (LOAD_PROFILE=…, USERS=…, SECONDS=…)
	$(BIN)/python -m benchmarks.locust --profile $(LOAD_PROFILE) --users $(USERS) --seconds $(SECONDS) \
		--rate $(RATE) --p99-ms $(P99_MS) $(if $(TEXTS),--texts $(TEXTS)) --write benchmarks/results/locust.md

# No GPU is needed, and none is used.
engines: $(VENV)/.engines  ## every family and precision: parity on the CPU, engines by TensorRT-RTX ahead of time
	$(BIN)/python -m benchmarks.engines

# An hour or two of one core. The list of modules is that of tests/mutation.py.
mutation: $(VENV)/.mutation  ## change the code a place at a time, and see whether tests notice (MODULES="text gate")
	$(BIN)/python -m tests.mutation $(MODULES)

# Each part with its floor in percent, by the tests that mirror it: those of build take twenty minutes, the rest five.
COVERED ?= server/runtime:90 clients:94 build:92
coverage: $(VENV)/.coverage  ## which lines tests reach; below the floor of a part an error (COVERED="clients:94")
	for part in $(COVERED); do \
		$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --cov $${part%:*} \
			--cov-report term:skip-covered --cov-fail-under $${part#*:} tests/$${part%:*} || exit; \
	done

constraints: $(BIN)/python  ## write the packages of the images with their hashes, by docker/constraints.txt
	$(BIN)/pip install --quiet 'uv>=0.9'
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python docker/lock.py

EXTRAS_serve := serve,gateway
EXTRAS_load := load
EXTRAS_test := test
EXTRAS_mutation := mutation
EXTRAS_coverage := coverage
EXTRAS_engines := tensorrt

# What is installed is remembered per extra; a change of pyproject.toml installs again.
$(VENV)/.serve $(VENV)/.test $(VENV)/.load $(VENV)/.engines $(VENV)/.mutation $(VENV)/.coverage: $(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[$(EXTRAS_$*)]'
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:  ## remove .venv and .cache
	rm -rf $(VENV) .cache
