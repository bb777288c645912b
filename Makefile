# make run    play the main job: a cluster takes in real files, is killed, comes back, and has lost nothing
# make test   everything that must hold: style, types, fast tests, stories in the simulation, process tests
# make fast   the tests that start no processes, play no whole stories and search no made-up cases (about a minute)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test fast lint clean

run: $(READY)
	$(BIN)/python -m ringkeeper.scenarios.main_job

# Tests that start processes mostly wait, so more run than there are processors; the others would make them wait longer.
test: lint
	$(BIN)/pytest -m processes -n 3 --dist worksteal
	$(BIN)/pytest -m "not processes" -n auto --dist worksteal

fast: $(READY)
	$(BIN)/pytest -m "not processes and not stories and not hypothesis and not browser" -n auto --dist worksteal

# mypy does not follow an editable install whose package is the root folder; the link shows it the way.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .typing && ln -sfn .. .typing/ringkeeper
	MYPYPATH=.typing $(BIN)/mypy -p ringkeeper

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .typing build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
