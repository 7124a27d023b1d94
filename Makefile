# The two commands: `make demo` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test coverage slow ui serve bench lint clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 8

# The stamps are newer than what they were made from, so a second call installs nothing.
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

demo: $(VENV)/.installed  ## tune, track, register and export the digit reader (about 5 minutes on 2 cores)
	$(BIN)/keras-dl tune pipelines/digits_ctc.py --trials 6

test: $(VENV)/.installed-test  ## the tests, two files at a time (15 to 25 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile

coverage: $(VENV)/.installed-test  ## the tests, and which lines they do not reach
	$(BIN)/python -m pytest --cov=keras_dl --cov-report=term:skip-covered --cov-fail-under=90

slow: $(VENV)/.installed-test  ## the tests that train to a threshold
	$(BIN)/python -m pytest -m slow

ui: $(VENV)/.installed  ## the MLflow UI on http://127.0.0.1:5000
	$(BIN)/keras-dl ui

serve: $(VENV)/.installed  ## serve every exported model on http://127.0.0.1:8501
	$(BIN)/keras-dl serve

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench,addons]"
	# Peers of the decoders: the first asks for an older NumPy, which it does not need, the last for a C++ compiler.
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps pyctcdecode pygtrie
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps kenlm
	touch $@

bench: $(VENV)/.installed-bench  ## ratios against peers (installs them: torch is large)
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

lint: $(VENV)/.installed-test  ## ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:  ## remove the environment (never your runs or models)
	rm -rf $(VENV)
