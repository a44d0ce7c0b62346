# `make demo` and `make test` need nothing but Python 3.11 or newer, with venv.
PYTHON ?= python3
HOME_DIR ?= .medpole
BIN := .venv/bin
export FLWR_TELEMETRY_ENABLED := 0
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test e2e test-all soak style lint portal chromium bench clean

demo: .venv/installed-all  ## four hospitals learn together, ending with a verified ledger
	$(BIN)/consortium demo --home $(HOME_DIR) $(ARGS)

portal: .venv/installed-all  ## look at the demo's ledger in a browser; the first time at the demo itself
	@if [ -e $(HOME_DIR)/home.json ]; then $(BIN)/consortium portal --home $(HOME_DIR) $(ARGS); \
	  else $(BIN)/consortium demo --home $(HOME_DIR) --portal $(ARGS); fi

# Types are checked beside the tests: alone that takes a core for a minute, and leaves one idle.
BESIDE_TYPES = mkdir -p build; nice $(BIN)/mypy >build/mypy.log 2>&1 & types=$$!; \
  $(1); tests=$$?; wait $$types; types=$$?; cat build/mypy.log; exit $$((tests | types))

test: style chromium  ## all tests but the slow ones
	@$(call BESIDE_TYPES,$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS))

e2e: .venv/installed-dev  ## ten rounds over a real network: every part a process, TLS, the proxy
	E2E_ROUNDS=$${E2E_ROUNDS:-10} $(BIN)/python -m pytest -n 0 -s tests/network/test_e2e.py $(ARGS)

test-all: style chromium  ## the slow tests too
	@$(call BESIDE_TYPES,$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS))

soak: .venv/installed-dev  ## 1,000 kills, counted by step (SEED=2 KILLS=200), 10,000 schedules, every byte
	KILLS=$${KILLS:-1000} $(BIN)/python -m pytest -n 0 -s -m slow tests/soak $(ARGS)
	$(BIN)/python -m pytest -n auto -m slow tests/agent/test_lying.py tests/agent/test_killed_rounds.py \
	  tests/agent/test_source_files.py tests/ledger $(ARGS)
	$(BIN)/python -m pytest -n 0 -s -m slow tests/network $(ARGS)

chromium:  ## a browser for the tests, Debian's; where it cannot be had they are skipped
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium \
	  >/dev/null; } || echo 'no Chromium here: browser tests will be skipped'

style: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style
	$(BIN)/mypy

bench: .venv/installed-dev  ## make bench AREA=models, figures in build/bench.json
	$(BIN)/python -m tests.benchmarks.run $(AREA)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error[PythonTooOld]: Python 3.11 or newer is needed'; \
	    echo 'how to resolve: install it, then: make PYTHON=python3.11 demo'; exit 1; }
	$(PYTHON) -m venv .venv

# Of 17,000 modules a third is ever imported: each is compiled when it is, not here one by one.
.venv/installed-%: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	  -c constraints.txt -e '.[$*]'
	@touch $@

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
