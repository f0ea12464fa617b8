# Everything sets itself up in .venv: `make demo` and `make test` need only Python, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint campaign bench kill-test kill-latency crash-test soak clean
.PHONY: demo test lint campaign bench kill-test kill-latency clean
.PHONY: demo test lint campaign crash-test clean
.PHONY: demo test lint campaign bench kill-test kill-latency model-test clean

demo: $(VENV)/.demo
	$(BIN)/labctl demo

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# the demo over many seeds: are its errors honest? (about 20 s of two cores per seed)
SEEDS ?= 100
campaign: $(VENV)/.demo
	$(BIN)/python tests/campaigns/demo_pulls.py --seeds $(SEEDS)

# what labctl costs, beside QCoDeS and bluesky (docs/benchmarks.md)
TOPICS ?=
BENCH_OPTIONS ?=
bench: $(VENV)/.demo
	$(BIN)/python -m benchmarks $(TOPICS) $(BENCH_OPTIONS)

# every way to die in every phase of a run: is it dark afterwards, and is everything on disk?
# (goes on where it was interrupted; about an hour of two cores for 20 repeats of each)
REPEATS ?= 20
kill-test: $(VENV)/.test
	$(BIN)/python -m tests.kill.matrix --repeats $(REPEATS)

# how soon it is dark, on a machine whose cores are all busy
kill-latency: $(VENV)/.test
	$(BIN)/python -m tests.kill.latency

# a run cut off at every write, and power losses (several minutes); the short form is in `make test`
CUTS ?= 10000
LOSSES ?= 2000
crash-test: $(VENV)/.test
	$(BIN)/python tests/campaigns/crash_exploration.py --cuts $(CUTS) --losses $(LOSSES)

# no false alarm of the guardian in two hours on a machine that is overloaded (SOAK_MINUTES=10 for less)
SOAK_MINUTES ?= 120
soak: $(VENV)/.test
	$(BIN)/python -m tests.campaigns.no_false_alarm --minutes $(SOAK_MINUTES)
# the engine through random sequences of commands, trips, faults and deaths
SEQUENCES ?= 100000
model-test: $(VENV)/.test
	$(BIN)/python -m tests.campaigns.engine_model --sequences $(SEQUENCES)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.test: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .venv-peers build *.egg-info
