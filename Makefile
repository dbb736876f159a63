# make demo: a model trained on the embedded data set, and its result.
# make page: the newest demo's model on a page: type, and see what it finds.    RUN=… chooses another run.
# make test: all tests.    make lint: style and types.    make docs: the documentation, build/docs/index.html.
# Each makes .venv first; PYTHON=… chooses the interpreter.

VENV := .venv
PYTHON := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

# of the demo; recursive, to be looked up when it is needed
RUN = $(or $(lastword $(sort $(wildcard runs/shapes/*))),$(error no demo in runs/shapes; first run: make demo))

.PHONY: demo page test lint docs

demo: $(VENV)/installed
	@$(VENV)/bin/python -m vse_gpo.train
	@echo "to try it in a browser: make page" >&2

page: $(VENV)/installed
	@$(VENV)/bin/python scripts/demo_gallery.py $(RUN)
	@$(VENV)/bin/python -m vse_gpo.index images=$(RUN)/page/pictures model=$(RUN)/checkpoints/best.ckpt out=$(RUN)/page/index
	@$(VENV)/bin/python -m vse_gpo.app index=$(RUN)/page/index captions=$(RUN)/page/captions.txt open=true \
		'examples=[an orange ring above a purple moon,a white heart right of a pink triangle,a large striped moon]'

test: $(VENV)/installed-dev
	@$(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope

lint: $(VENV)/installed-dev
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/codespell
	@$(VENV)/bin/python scripts/lint.py
	@$(VENV)/bin/mypy

docs: $(VENV)/installed-dev
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet --strict --config-file docs/mkdocs.yml
	@echo "read it: build/docs/index.html; with search: $(VENV)/bin/python -m http.server --directory build/docs"

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing vse_gpo, what it needs and its search into $(VENV); PyTorch is large, this takes some minutes"
	@$(PIP) --editable '.[search]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing vse_gpo, what it needs and its test tools into $(VENV); PyTorch is large, this takes some minutes"
	@$(PIP) --editable '.[dev,docs]'
	@touch $@

$(VENV)/bin/python:
	@for python in $(PYTHON); do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
			$$python -m venv $(VENV) && exit || { rm -rf $(VENV); exit 1; }; \
		fi; \
	done; \
	echo "error: no Python 3.11, 3.12 or 3.13 among: $(PYTHON); install one, or name it by make PYTHON=…" >&2; exit 1
