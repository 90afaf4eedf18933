# Both `make demo` and `make test` set themselves up in .venv from a bare python3; a second run re-uses it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint types clean

# One thread each: more of them only get in each other's way in models this small.
demo: $(READY)  ## pretrain on scikit-learn's digits, probe, draw: minutes on a CPU
	rm -rf demo
	OMP_NUM_THREADS=1 $(BIN)/data2vec pretrain --recipe data2vec2-vision-tiny --dataset digits --probe_split test --output_dir demo

test: $(READY)  ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test-slow: $(READY)  ## the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy
	$(BIN)/mypy trainers data2vec_cli.py

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test,dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info demo runs
