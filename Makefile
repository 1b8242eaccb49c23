# make test      all kinds of tests, on this machine's oldest and newest Python; of those that are alike or long, some
# make test-all  all of them, on every Python from 3.11 on that is found on PATH or under pyenv, and with IPython 8.18
# make played    PyTorch's CUDA build on a GPU that is played, and tests/gpu on it; make recovery: all ways to run out
# make peers     IPython's, ipykernel's and ipywidgets' own tests, with nb_oomhelper in every shell; PEERS=ipython: one
# make engines   errors that ipyparallel, Dask and Ray bring from their workers, with the real ones; in make test, too
# make quick     the plain tests on the sources as they stand, in parallel; T=tests/memory: a part of them
# make docs      the site of the knowledge base, into build/docs/site: what it knows, with search, English and Chinese
# make demo      JupyterLab at the quickstart notebook; GPU=played: on a played 8 GiB GPU with another process on it
# make wheel     dist/*.whl, to install anywhere with pip
#
# Each sets up what it needs on the first run. They need only python3 (3.11 or newer) with its venv module, and the
# network for the first run. PYTHON=python3.12 picks another interpreter. Where it can already import torch, that torch
# is used. What is tested is the built wheel, installed; it is built again when the sources have changed.

PYTHON ?= python3
TORCH ?= torch==2.13.0
# The CUDA build below which tests/played_cuda plays a device: 1.1 GB on disk, nothing of NVIDIA's.
CUDA_TORCH := torch==2.14.1

VENV := .venv
PY := $(VENV)/bin/python
CUDA_PY := .venv-cuda/bin/python
PIP := -m pip --disable-pip-version-check install --quiet
PYTEST := $(PY) -m pytest --timeout 300
# Two at a time, each file's tests in one process: they share kernels and browsers. The slow ones begin (tests/conftest.py).
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
# What `make quick` does not look at: other kinds of tests, which take long to collect, and what is about the wheel.
NOT_QUICK := $(addprefix --ignore tests/,kernel browser gpu test_wheel.py)

# The newest packages are in $(VENV); the others are in a .venv-NAME for each of these.
NEWEST := ipython ipykernel ipywidgets
# The oldest that we support on the way from IPython 8 on.
.venv-old/.packages: PACKAGES := ipython==8.18.* ipykernel==6.29.* ipywidgets==8.0.7 nvidia-ml-py==12.535.* psutil==5.9.* numpy
# What Google Colab has, the lower bounds of pyproject.toml; Kaggle's image is built from it.
COLAB := ipython==7.34.0 ipykernel==6.17.1 traitlets==5.7.1 jupyter-client==7.4.9 psutil==5.9.5 nvidia-ml-py numpy
.venv-colab/.packages: PACKAGES := $(COLAB) ipywidgets==7.7.1
.venv-kaggle/.packages: PACKAGES := $(COLAB) ipywidgets==8.1.5
# What brings errors from other processes, some 500 MB; tests/kernel/test_engines.py asks for it.
ENGINES := ipyparallel distributed ray joblib
# What the tests of IPython, ipykernel and ipywidgets need.
.venv-peers/.packages: PACKAGES := ipython[test,matplotlib] ipykernel[test] ipywidgets[test] nvidia-ml-py psutil numpy flaky pytest-timeout

# Root needs a flag; without a display there is no browser to open, and the address is printed all the same.
LAB_FLAGS := $(shell [ "$$(id -u)" != 0 ] || echo --allow-root) \
  $(shell [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ] || echo --no-browser)

WHEEL := dist/.built
SOURCES := pyproject.toml hatch_build.py README.md LICENSE $(shell find src -not -name '*.pyc' -not -name __pycache__)
OTHERS := $(PYTHON) tests/interpreters.py --others

# What takes the time: each process and kernel imports torch, 2 to 3 s of a processor. On two, the tests with the mark
# `played` take about 40 s, tests/gpu on the played GPU 2 minutes with a dozen of the recovery suite, 6 with all.
# A played GPU for the command that follows; elsewhere it says why there is none, and with CI=true it fails.
CUDA := $(if $(filter Linux_x86_64,$(shell uname -sm | tr ' ' _)),.venv-cuda/.$(subst ==,-,$(CUDA_TORCH)))
PLAYED = $(PY) -m tests.played_cuda --or-skip --capacity 16GiB --reserved 400MiB -- $(CUDA_PY) -m pytest --timeout 300 \
  $(PARALLEL) -m gpu
# Of the recovery suite's ways to run out of memory, those in `make test`: one for each place where tensors stay.
SOME := not gives_all_of_it_back or local_tensors or closures or generator_suspended or exception_group or thread or \
  task_kept or recent_results or losses_with_graph or optimizer_step or saved_error or html_repr or widget_callback
# What another IPython breaks first, and another Python: what `make test` looks at on those.
ON_IPYTHON := tests/shell $(addprefix tests/kernel/test_,errors.py panel.py release.py routes.py unload.py)
ON_PYTHON := $(addprefix tests/,failure holders remedies shell source) $(addprefix tests/kernel/test_,errors.py release.py)
# They search all that is alive, thousands of tests among it where those are in the same process.
APART := tests/holders
TESTS ?= tests
GPU ?= any

.PHONY: test test-all ready ends quick demo demo-any demo-played wheel env old colab kaggle cuda chromium lint types plain kernel \
  browser pictures gpu played recovery bench peers engines docs clean
.SECONDARY:

test:
	@$(MAKE) --no-print-directory -j2 ready docs ends
	$(PYTEST) $(PARALLEL) --pairs new -m "not thorough" -k "$(SOME)" --durations 40 --ignore $(APART)
	$(PYTEST) $(PARALLEL) -m "not thorough" $(APART)
	$(PYTEST) $(PARALLEL) --pairs colab $(ON_IPYTHON)
	$(PLAYED) -k "$(SOME)" tests/gpu
	@found=$$($(OTHERS) --ends) && $(call on_each,"on-$$version",$(ON_PYTHON))

test-all:
	@$(MAKE) --no-print-directory -j2 ready docs old
	$(PYTEST) $(PARALLEL) --pairs colab,old,new --durations 40
	$(PLAYED) tests/gpu
	@found=$$($(OTHERS)) && $(call on_each,"on-$$version",tests)

# `found` has a line "3.12 /path/to/python3.12" each.
on_each = echo "$$found" | while read -r version python; do \
  [ -z "$$version" ] || $(MAKE) --no-print-directory PYTHON="$$python" TESTS="$(2)" $(1) </dev/null || exit 1; done

ready: env colab cuda .venv-engines/.wheel chromium lint types

# The environments that `make test` has on other Pythons: made while others are.
ends: $(WHEEL)
	@found=$$($(OTHERS) --ends) && $(call on_each,".venv-$$version/.tools")

# Another Python has the newest packages of its own, and torch only where pip finds a file of it without an index:
# an index may send gigabytes of CUDA. What it lacks is skipped, also with CI=true.
on-%: .venv-%/.tools
	CI= .venv-$*/bin/python -m pytest --timeout 300 $(PARALLEL) --pairs new -m "plain or kernel" \
	  --ignore tests/browser --ignore tests/gpu --ignore tests/kernel/test_engines.py $(TESTS)

# What is there is used as it is, however old: only where there is no environment yet is one made.
quick:
	@[ -e $(VENV)/.packages ] || $(MAKE) --no-print-directory env
	PYTHONPATH="$(CURDIR)/src" $(PYTEST) -q -n auto --dist worksteal --pairs new -m plain $(NOT_QUICK) $(T)

demo: demo-$(GPU)

LAB := -m jupyterlab --LabApp.default_url=/lab/tree/notebooks/quickstart.ipynb $(LAB_FLAGS)
demo-any: $(VENV)/.demo
	$(PY) $(LAB)

demo-played: $(VENV)/.demo cuda
	JUPYTER_PATH=$(VENV)/share/jupyter $(PY) -m tests.played_cuda --capacity 8GiB --other 3GiB -- \
	  $(CUDA_PY) $(LAB) --LabApp.app_dir=$(VENV)/share/jupyter/lab

lint: env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: env
	$(PY) -m mypy

plain: env
	$(PYTEST) $(PARALLEL) -m plain --cov --cov-report term

kernel: env old colab
	$(PYTEST) $(PARALLEL) -m kernel

browser: env chromium
	$(PYTEST) -m browser

# What README.md and docs/front-ends.md show, as the tests take it.
pictures: env chromium
	PICTURES=docs/images $(PYTEST) -m browser tests/browser

gpu: env
	$(PYTEST) -m gpu

played: env cuda
	$(PYTEST) $(PARALLEL) -m played
	$(PLAYED) -k "$(SOME)" tests/gpu

recovery: env cuda
	$(PYTEST) $(PARALLEL) tests/test_recovery_scenarios.py
	$(PLAYED) tests/gpu/test_recovery.py

bench: env $(VENV)/.bench
	$(PY) -m benchmarks.run

peers: .venv-peers/.wheel
	.venv-peers/bin/python tests/peers.py $(PEERS)

engines: env .venv-engines/.wheel
	$(PYTEST) tests/kernel/test_engines.py

# Its tools are no part of any other environment. What is only a warning to them is an error here, and --quiet would hide it.
docs: env .venv-docs/.site
	@rm -rf build/docs
	PYTHONPATH="$(CURDIR)" $(PY) docs/site/pages.py build/docs
	@for language in en zh; do NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict \
	  --config-file build/docs/mkdocs-$$language.yml || exit 1; done
	@echo "build/docs/site/index.html"

.venv-docs/.site: docs/site/requirements.txt | .venv-docs/.made
	@echo "== .venv-docs: mkdocs"
	@.venv-docs/bin/python $(PIP) -r docs/site/requirements.txt
	@touch $@

wheel: $(WHEEL)
	@ls dist/*.whl

clean:
	rm -rf $(VENV) .venv-* build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(WHEEL): $(SOURCES) | $(VENV)/.made
	@echo "== dist: the wheel"
	@rm -rf dist
	@$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .
	@touch $@

# In each environment: .made, it is there; .torch, with torch; .packages, with what the tests need; .wheel, with us.

env: $(VENV)/.wheel
old: .venv-old/.wheel
colab: .venv-colab/.wheel
cuda: env $(CUDA)
kaggle: env .venv-kaggle/.wheel
	$(PYTEST) $(PARALLEL) -m kernel --pairs kaggle

%/.wheel: $(WHEEL) %/.packages
	@$*/bin/python $(PIP) --no-deps --force-reinstall dist/*.whl
	@touch $@

$(VENV)/.packages: pyproject.toml | $(VENV)/.torch $(WHEEL)
	@echo "== $(VENV): the newest IPython and ipykernel, and the test tools"
	$(PY) $(PIP) --upgrade $(NEWEST) "$$(ls dist/*.whl)[test]"
	@touch $@

.venv-%/.packages: Makefile | .venv-%/.torch
	@echo "== .venv-$*: $(PACKAGES)"
	@.venv-$*/bin/python $(PIP) $(PACKAGES)
	@touch $@

# One after the other: one that is not to be had here (Ray has nothing for the newest Pythons) leaves the others, and
# its tests are skipped. It is asked for again the next time.
.venv-engines/.packages: Makefile | .venv-engines/.made
	@echo "== .venv-engines: $(ENGINES)"
	@.venv-engines/bin/python $(PIP) ipykernel ipywidgets numpy psutil
	@lacks=; for name in $(ENGINES); do .venv-engines/bin/python $(PIP) $$name || lacks="$$lacks $$name"; done; \
	  if [ -n "$$lacks" ]; then echo "not to be had here, and not tested:$$lacks" >&2; else touch $@; fi

.venv-%/.tools: pyproject.toml $(WHEEL) | .venv-%/.made
	@echo "== .venv-$*: the newest IPython and ipykernel, and the test tools"
	.venv-$*/bin/python $(PIP) --upgrade $(NEWEST) "$$(ls dist/*.whl)[tools]"
	@.venv-$*/bin/python $(PIP) --no-deps --force-reinstall dist/*.whl
	@.venv-$*/bin/python -c 'import torch' 2>/dev/null || \
	  ! .venv-$*/bin/python $(PIP) --no-index --no-deps "$(TORCH)" 2>/dev/null || .venv-$*/bin/python $(PIP) "$(TORCH)"
	@touch $@

$(VENV)/.demo: pyproject.toml $(WHEEL) | $(VENV)/.torch
	@echo "== $(VENV): JupyterLab, and what the notebooks use"
	$(PY) $(PIP) "$$(ls dist/*.whl)[demo]"
	@$(PY) $(PIP) --no-deps --force-reinstall dist/*.whl
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.wheel
	@echo "== $(VENV): gpustat"
	$(PY) $(PIP) "$$(ls dist/*.whl)[bench]"
	@touch $@

# torch goes in first and with its exact version: a range would fetch the newest build and gigabytes of CUDA.
%/.torch: | %/.made
	@echo "== $*: torch"
	@$*/bin/python -c 'import torch' 2>/dev/null || $*/bin/python $(PIP) "$(TORCH)"
	@touch $@

# Everything but torch is that of $(VENV). What the wheel asks for of NVIDIA's is struck out, so that no later install
# fetches it.
.venv-cuda/.torch-%: | .venv-cuda/.made $(VENV)/.made
	@echo "== .venv-cuda: $(CUDA_TORCH), the CUDA build alone"
	@$(CUDA_PY) $(PIP) --no-deps --ignore-installed "$(CUDA_TORCH)"
	@sed -i -E 's/^Requires-Dist: (cuda-|nvidia-|triton)/X-&/' .venv-cuda/lib/python3*/site-packages/torch-*.dist-info/METADATA
	@site='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	  $(PY) -c "$$site" > "$$($(CUDA_PY) -c "$$site")/shared.pth"
	@touch $@

%/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nb_oomhelper needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "== $*: a virtual environment"
	@$*/bin/python -m pip --version >/dev/null 2>&1 || \
	  $(PYTHON) -m venv --clear $$($(PYTHON) -c 'import torch' 2>/dev/null && echo --system-site-packages) $*
	@touch $@

# The browser tests need Chromium and a font with Chinese characters. apt brings both where it may;
# elsewhere the tests say what they skip, and with CI=true they fail instead.
chromium:
	@sh tests/browser/install_chromium.sh
