# The two commands are `make demo` and `make test`. Everything is installed in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test coverage slow ui serve bench lint clean

help:  ## print this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 8

# Stamp files: a second call installs nothing.
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

demo: $(VENV)/.installed  ## tune, track, register and export the digit reader (about 5 minutes on 2 cores)
	$(BIN)/keras-dl tune pipelines/digits_ctc.py --trials 6

test: $(VENV)/.installed-test  ## run the tests, two files at a time (about 8 minutes on 2 fast cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

coverage: $(VENV)/.installed-test  ## run the tests and list the lines that they do not cover
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=keras_dl --cov-report=term:skip-covered --cov-fail-under=92

slow: $(VENV)/.installed-test  ## run the slow tests: training to a threshold, random kills, fuzzing, variants
	$(BIN)/python -m pytest -m slow

ui: $(VENV)/.installed  ## start the MLflow UI on http://127.0.0.1:5000
	$(BIN)/keras-dl ui

serve: $(VENV)/.installed  ## serve every exported model on http://127.0.0.1:8501
	$(BIN)/keras-dl serve

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench,addons]"
	# Peers of the decoders. pyctcdecode requires an older NumPy without needing it; kenlm needs a C++ compiler.
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps pyctcdecode pygtrie
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps kenlm
	touch $@

bench: $(VENV)/.installed-bench  ## measure ratios against peers (installs them; torch is large)
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

lint: $(VENV)/.installed-test  ## run ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:  ## remove the environment, not your runs or models
	rm -rf $(VENV)
