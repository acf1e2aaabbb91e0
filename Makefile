# One virtual environment, installed by pip under constraints.txt or others that CONSTRAINTS names (a plain pip fetches the CPU build there).
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
unexport PYTHONDONTWRITEBYTECODE  # else each process of the tests compiles memae and its tests anew

.PHONY: install services demo test test-lowest test-slow test-real coverage sanitize attack load soak check docs tables figures cells sbom packages clean

install: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS) setup.py $(wildcard src/memae/training/compiled_gradients/*.cpp src/memae/training/compiled_gradients/*.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "memae needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[tensorboard,video,openvino,export,features,onnx,hub,pyod,ray,serve,live,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/memae demo

# what tests take from the system: a browser for pages and a broker of MQTT; without them, their tests are skipped and
# say so
services:
	apt-get install -y chromium mosquitto

test: $(STAMP)
	$(BIN)/python -m pytest -m 'not real and not slow' -n 2

# the tests, then the share of lines that they reach, of each module and of all
coverage: $(STAMP)
	$(BIN)/python -m pytest -m 'not real and not slow' -n 2 --cov=memae --cov-report=term:skip-covered

# with the lowest versions that pyproject.toml allows, torch excepted, in an environment of its own; warnings are of
# these old versions about each other
test-lowest:
	mkdir -p build
	$(PYTHON) tests/bounds.py lowest > build/lowest.txt
	$(MAKE) VENV=.venv-lowest CONSTRAINTS=build/lowest.txt install
	.venv-lowest/bin/python -m pytest -m 'not real and not slow' -n 2 -W ignore::DeprecationWarning

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -n 2

test-real: $(STAMP)
	$(BIN)/python -m pytest -m real --timeout 3600

# the compiled gradients in builds with sanitizers; about three minutes
sanitize: $(STAMP)
	$(BIN)/python tests/sanitize.py

# hostile files, kills and bad disks, for hours; may be stopped at any time, and goes on where it was; docs/attack.md
attack: $(STAMP)
	$(BIN)/python -m tests.attack corpus
	$(BIN)/python -m tests.attack kills --most 500 --budget 2h
	$(BIN)/python -m tests.attack disks --most 50 --budget 1h
	$(BIN)/python -m tests.attack inputs --most 1000000 --budget 12h
	$(BIN)/python -m tests.attack record

# rows, images and video without pause, a quarter of an hour each; wants a machine that does nothing else
load: $(STAMP)
	$(BIN)/python -m benchmarks load --minutes 15 --keep

# eight cameras watched for half an hour, then how many are carried; wants a machine that does nothing else
soak: $(STAMP)
	$(BIN)/python -m benchmarks soak --minutes 30 --keep

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r src

# wheel and sdist in dist/, and each extra alone in a fresh environment under the constraints; EXTRAS names some of them
packages: $(STAMP)
	$(BIN)/python -m tests.packages $(EXTRAS)

# what memae needs, as installed, with versions and licences: build/sbom.json
sbom: $(STAMP)
	mkdir -p build
	$(BIN)/python tests/sbom.py > build/sbom.json

tables: $(STAMP)
	$(BIN)/python -m experiments render

# from committed results; `python -m experiments figures --compute` computes what they lack
figures: $(STAMP)
	$(BIN)/python -m experiments figures

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[docs]'
	touch $@

# docs/cli.md, docs/config.md, and all pages with the API reference as HTML in docs/_build; a warning is an error
docs: $(VENV)/.docs
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# what the tables lack; takes days, may be stopped at any time, and goes on where it was
cells: $(STAMP)
	failed=0; for table in table1 table2 table3 table4 table5 table6; do $(BIN)/python -m experiments run $$table || failed=1; done; exit $$failed
	$(BIN)/python -m experiments demo

clean:
	rm -rf $(VENV) .venv-lowest build dist docs/_build .mypy_cache .ruff_cache .pytest_cache
