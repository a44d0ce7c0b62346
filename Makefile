# `make demo` and `make test` need nothing but Python 3.11 or newer, with venv.
PYTHON ?= python3
HOME_DIR ?= .medpole
BIN := .venv/bin
export FLWR_TELEMETRY_ENABLED := 0
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test e2e test-all soak lint portal bench clean

demo: .venv/installed-all  ## four hospitals learn together, ending with a verified ledger
	$(BIN)/consortium demo --home $(HOME_DIR) $(ARGS)

portal: .venv/installed-all  ## look at the demo's ledger in a browser
	$(BIN)/consortium portal --home $(HOME_DIR) $(ARGS)

test: lint  ## all tests but the slow ones
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

e2e: .venv/installed-dev  ## ten rounds over a real network: every part a process, TLS, the proxy
	E2E_ROUNDS=$${E2E_ROUNDS:-10} $(BIN)/python -m pytest -n 0 -s tests/network/test_e2e.py $(ARGS)

test-all: lint  ## the slow tests too
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

soak: .venv/installed-dev  ## 1,000 kills, counted by step (SEED=2 KILLS=200), 10,000 schedules, every byte
	KILLS=$${KILLS:-1000} $(BIN)/python -m pytest -n 0 -s -m slow tests/soak $(ARGS)
	$(BIN)/python -m pytest -n auto -m slow tests/agent/test_lying.py tests/ledger $(ARGS)
	$(BIN)/python -m pytest -n 0 -s -m slow tests/network $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-dev  ## make bench AREA=models, figures in build/bench.json
	$(BIN)/python -m tests.benchmarks.run $(AREA)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error[PythonTooOld]: Python 3.11 or newer is needed'; \
	    echo 'how to resolve: install it, then: make PYTHON=python3.11 demo'; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed-%: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
