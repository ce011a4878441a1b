# Two commands: `make run` codes examples/note.txt, `make test` runs every test. Nothing but python3 (with venv) is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test clean

run: $(VENV)/.core
	$(BIN)/python -m minscl.generate examples/note.txt --grounded --min-score 0.25

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile  # two files at a time, a thread each: threads of two processes would wait for one another

# A stamp per install step: reinstalls only when the metadata or the pins change.
$(VENV)/.core: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
