# `make run` codes examples/note.txt, `make review` opens the three example notes in the browser, `make check` lints and
# type-checks, `make test` tests in four minutes, `make test-page` tests the coder's page in Chromium (apt-get install
# chromium; skipped with a warning without it), `make test-all` runs these and the long tests too, `make faults` lets the
# disk fail at every operation, `make fuzz` gives every reader 20,000 damaged files in minutes. Needs python3 with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run review check test faults test-page test-all fuzz clean

run: $(VENV)/.core
	$(BIN)/python -m minscl.generate examples/note.txt

review: $(VENV)/.review
	$(BIN)/python -m minscl.review examples/*.txt

check: $(VENV)/.check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Two files at a time with one thread each: threads of two processes on two cores would wait for one another.
# The order of the files is tests/conftest.py's.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long and not browser"

# Every operation on the disk fails in turn; the last line says how many points were tried.
faults: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_faults.py

test-page: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "browser and not long"

test-all: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz --inputs 20000

# A stamp per install step: reinstalls only when the metadata or the pins change.
$(VENV)/.core: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.review: $(VENV)/.core
	$(PIP) -e ".[review]"
	touch $@

$(VENV)/.check: $(VENV)/.core
	$(PIP) -e ".[check]"
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
