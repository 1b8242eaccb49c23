# make test    everything that can be checked on this machine; sets up what it needs on the first run
# make demo    JupyterLab at the quickstart notebook
#
# Both need only python3 (3.11 or newer) with its venv module, and the network for the first run.
# PYTHON=python3.12 picks another interpreter. Where it can already import torch, that torch is used.

PYTHON ?= python3
TORCH ?= torch==2.13.0

VENV := .venv
OLD := .venv-old
PY := $(VENV)/bin/python
PIP := -m pip --disable-pip-version-check install --quiet
PYTEST := $(PY) -m pytest --timeout 300

# The oldest packages that we support, the lower bounds of pyproject.toml; the newest are in $(VENV).
OLDEST := "ipython==8.18.*" "ipykernel==6.29.*" "ipywidgets==8.0.7" "nvidia-ml-py==12.535.*" "psutil==5.9.*" numpy
NEWEST := ipython ipykernel ipywidgets

# Root needs a flag; without a display there is no browser to open, and the address is printed all the same.
LAB_FLAGS := $(shell [ "$$(id -u)" != 0 ] || echo --allow-root) \
  $(shell [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ] || echo --no-browser)

.PHONY: test demo env old chromium lint types plain kernel browser gpu bench wheel-check clean

test: env old chromium lint types
	$(PYTEST)

demo: $(VENV)/.demo
	$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks/quickstart.ipynb $(LAB_FLAGS)

lint: env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: env
	$(PY) -m mypy

plain: env
	$(PYTEST) -m plain

kernel: env old
	$(PYTEST) -m kernel

browser: env chromium
	$(PYTEST) -m browser

gpu: env
	$(PYTEST) -m gpu

wheel-check: env
	$(PYTEST) tests/test_wheel.py

bench: env $(VENV)/.bench
	$(PY) -m benchmarks.run

clean:
	rm -rf $(VENV) $(OLD) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

env: $(VENV)/.test
old: $(OLD)/.kernel

$(VENV)/.test: pyproject.toml | $(VENV)/.torch
	@echo "== $(VENV): the newest IPython and ipykernel, and the test tools"
	$(PY) $(PIP) --upgrade $(NEWEST) -e ".[test]"
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.torch
	@echo "== $(VENV): JupyterLab"
	$(PY) $(PIP) -e ".[demo]"
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.torch
	@echo "== $(VENV): gpustat"
	$(PY) $(PIP) -e ".[bench]"
	@touch $@

$(OLD)/.kernel: pyproject.toml Makefile | $(OLD)/.torch
	@echo "== $(OLD): the oldest IPython and ipykernel"
	$(OLD)/bin/python $(PIP) $(OLDEST)
	$(OLD)/bin/python $(PIP) --no-deps -e .
	@touch $@

# torch goes in first and with its exact version: a range would fetch the newest build and gigabytes of CUDA.
%/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nb_oomhelper needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "== $*: a virtual environment with torch"
	@$*/bin/python -m pip --version >/dev/null 2>&1 || \
	  $(PYTHON) -m venv --clear $$($(PYTHON) -c 'import torch' 2>/dev/null && echo --system-site-packages) $*
	@$*/bin/python -c 'import torch' 2>/dev/null || $*/bin/python $(PIP) "$(TORCH)"
	@touch $@

# The browser tests need Chromium and a font with Chinese characters. apt brings both where it may;
# elsewhere the tests say what they skip, and with CI=true they fail instead.
chromium:
	@sh tests/browser/install_chromium.sh
