# Both `make demo` and `make test` set themselves up in .venv from a bare python3; a second run re-uses it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# gradio and Trackio ask for an older Pillow than the one that the tests run with.
OLDER := .venv-older-pillow

.PHONY: demo demo-vision demo-speech demo-text demo-all test test-slow test-common test-trackers test-wheel lint types docs docs-screens explore-screens notebooks clean

MODALITY ?= vision
# Interpreters of `make test-wheel`.
PYTHONS ?= $(PYTHON)
SOUNDS := /usr/share/asterisk/sounds
PRETRAIN := OMP_NUM_THREADS=1 $(BIN)/data2vec pretrain

# One thread each: more of them only get in each other's way in models this small.
demo: demo-$(MODALITY)  ## pretrain a tiny model in minutes on a CPU; MODALITY=vision, speech, text or all

demo-vision: $(READY)  # scikit-learn's digits
	rm -rf demo
	$(PRETRAIN) --recipe data2vec2-vision-tiny --dataset digits --probe_split test --output_dir demo

demo-speech: $(SOUNDS) $(READY)  # studio recordings that Debian packages
	rm -rf demo
	$(PRETRAIN) --recipe data2vec2-spectrogram-tiny --dataset $(SOUNDS) --output_dir demo

demo-text: $(READY)  # the language reference that comes with Python
	rm -rf demo
	$(BIN)/data2vec tokenizer --dataset python-docs --vocab_size 2000 --output_dir demo/tokenizer
	$(PRETRAIN) --recipe data2vec2-text-tiny --dataset python-docs --tokenizer demo/tokenizer --output_dir demo

demo-all: $(SOUNDS) $(READY)  # all three of them around one trunk
	rm -rf demo
	$(BIN)/data2vec tokenizer --dataset python-docs --vocab_size 2000 --output_dir demo/tokenizer
	$(PRETRAIN) --recipe data2vec2-tiny --dataset audio=$(SOUNDS) text=python-docs vision=digits \
		--tokenizer demo/tokenizer --probe_split vision=test --output_dir demo

$(SOUNDS):
	@echo "$@ is missing: apt-get install -y asterisk-core-sounds-en-g722" >&2; exit 2

demo-%:
	@echo "MODALITY is '$*', but must be vision, speech, text or all" >&2; exit 2

test: $(READY)  ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-slow: $(VENV)/.mteb  ## the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-common: $(READY)  ## transformers' own tests of models, fetched once, on ours
	OMP_NUM_THREADS=1 $(BIN)/python tests/common/run.py $(PYTEST_ARGS)

test-trackers: $(OLDER)/.ready  ## runs that report to Trackio and Weights & Biases, without a network
	OMP_NUM_THREADS=1 $(OLDER)/bin/python -m pytest -m slow tests/monitoring/test_trackers.py $(PYTEST_ARGS)

test-wheel: $(READY)  ## wheel and sdist in fresh environments, PYTHONS="python3.10 python3.13"; takes pip's default torch
	OMP_NUM_THREADS=1 PYTHONS="$(PYTHONS)" $(BIN)/python -m pytest -m slow tests/test_wheel.py $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

INSTALLED := build/types/modeling_data2vec
types: $(READY)  ## of package, trainers and benchmarks
	$(BIN)/mypy
	$(BIN)/mypy trainers data2vec_cli.py
# Benchmarks import the trainers by their installed name, which mypy finds in links alone.
	rm -rf build/types && mkdir -p $(INSTALLED) && ln -s $(CURDIR)/modeling_data2vec/* $(CURDIR)/trainers $(INSTALLED)
	cd benchmarks && MYPYPATH=../build/types ../$(BIN)/mypy --config-file ../pyproject.toml --cache-dir ../build/mypy --follow-imports silent .

docs: $(VENV)/.docs  ## the documentation site, in build/site; warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env --builder html --doctree-dir build/doctrees docs build/site

# Without progress bars and warnings of them in what the cells print.
QUIET := OMP_NUM_THREADS=1 TQDM_DISABLE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 PYTHONWARNINGS="ignore:IProgress not found"
notebooks: $(VENV)/.notebooks  ## examples/notebooks/*.ipynb from their scripts, executed at their printed size
	cd examples/notebooks && PATH=$(CURDIR)/$(BIN):$$PATH $(QUIET) $(CURDIR)/$(BIN)/jupytext --quiet --set-kernel python3 --to ipynb --execute *.py
	rm -rf examples/notebooks/runs

docs-screens: docs $(VENV)/.browser  ## pictures of the site in build/screens: wide and narrow, light and dark; needs chromium
	$(BIN)/python docs/screens.py

explore-screens: $(OLDER)/.ready  ## the page of `data2vec explore` clicked through; pictures in build/screens; needs chromium
	OMP_NUM_THREADS=1 $(OLDER)/bin/python -m pytest -m slow tests/exploring/test_page.py $(PYTEST_ARGS)

# $(call install,environment,constraints): Python 3.10 can't have these versions, and gets the newest that it can.
install = $(1)/bin/python -m pip install --quiet --disable-pip-version-check $$($(1)/bin/python -c "import sys; print('--constraint $(2)' * (sys.version_info >= (3, 11)))") --editable
INSTALL := $(call install,$(VENV),constraints.txt)

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) ".[test,dev]"
	touch $(READY)

# What only documentation, notebooks, pictures or slow tests need: the others don't wait for it.
$(VENV)/.docs $(VENV)/.notebooks $(VENV)/.browser $(VENV)/.mteb: $(VENV)/.%: $(READY)
	$(INSTALL) ".[$*]"
	touch $@

$(OLDER)/.ready: setup.cfg pyproject.toml constraints.txt
	test -x $(OLDER)/bin/python || $(PYTHON) -m venv $(OLDER)
	sed "s/^pillow==.*/pillow==12.3.0/" constraints.txt > $(OLDER)/constraints.txt
	$(call install,$(OLDER),$(OLDER)/constraints.txt) ".[test,explore,browser,trackers]"
	touch $@

clean:
	rm -rf $(VENV) $(OLDER) build dist *.egg-info demo runs
