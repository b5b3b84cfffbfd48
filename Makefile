# Every target does its own set-up and is safe to repeat. `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PY := .venv/bin/python
# Commands and tests start many processes: what is compiled once is kept, whatever the caller's shell says.
unexport PYTHONDONTWRITEBYTECODE
PLUGIN_TESTS := tests/contract/test_methods.py tests/ogm/test_loop.py tests/ogm/test_checks.py tests/ogm/test_registry.py
# What torch 2.4 warns of by itself: that NumPy is absent, and (as it unpickles) its own torch.load.
OLD_TORCH := -W 'ignore:Failed to initialize NumPy' -W 'ignore:You are using `torch.load`'

.DEFAULT_GOAL := help
.PHONY: help setup reproduce-paper compare tune test test-all test-plugin test-ray test-slurm test-trainers test-dashboards test-notebook smoke lint bench bench-scale report docs clean

help: ## this list
	@echo "OGM-Bench: balanced multimodal learning, reproducibly. Targets:"
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Variables (make reproduce-paper QUICK=1 JOBS=2):"
	@echo "  DATASETS  avmnist,crema_d     which data (reproduce-paper; default: synthav and all that are prepared)"
	@echo "  SEEDS     3                   training seeds per row"
	@echo "  QUICK     1                   shortened runs, to check that everything works: their tables rank nothing"
	@echo "  SUITE     paper               which tables: python -m benchmarks list suites"
	@echo "  JOBS      $(JOBS)                   runs, or files of tests, at a time (default: one per core)"
	@echo "  DEVICE    auto                cpu, cuda, cuda:1"
	@echo "  METHODS   all                 for compare and tune, comma-separated; DATASET, FUSION likewise"
	@echo "  TRIALS    8                   for tune: settings that are tried for each method"
	@echo "  RESULTS   results/SUITE       where records and tables go"
	@echo "  OGM_DATA  data                folder with the downloaded datasets (environment)"
	@echo "  PYTHON    python3             3.11 or newer, for the virtual environment"
	@echo "  TORCH_BUILD auto              cpu or cuda: which torch setup installs (default: by whether there is an NVIDIA GPU)"
	@echo "  TORCH     newest              which torch for test-plugin; the oldest that is promised: 2.4.0"

setup: .venv/.ready .venv/bin/ogm-bench ## the virtual environment, with the exact versions of requirements.txt (TORCH_BUILD=cpu|cuda)

.venv/bin/ogm-bench: | .venv/.ready
	@ln -sf ../../benchmarks/ogm-bench $@

# An environment keeps its build of torch until TORCH_BUILD asks for the other; then it is made anew.
HAS_BUILD = $(shell cat .venv/.torch_build 2>/dev/null || echo cuda)
ifneq ($(filter-out $(HAS_BUILD),$(TORCH_BUILD)),)
.PHONY: .venv/.ready
endif

.venv/.ready: requirements.txt requirements-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than Python 3.11; name another: make PYTHON=python3.11 ..." >&2; exit 2; }
	@build=$$($(PYTHON) benchmarks/torch_build.py $(or $(TORCH_BUILD),auto)) || exit $$?; \
	case $$build in cpu) list=requirements-cpu.txt ;; *) list=requirements.txt ;; esac; \
	[ $(HAS_BUILD) = $$build ] || rm -rf .venv; \
	if command -v uv > /dev/null; then \
		{ [ -x $(PY) ] || uv venv --quiet --python $(PYTHON) .venv; } && echo $$build > .venv/.torch_build && \
		uv pip sync --python $(PY) --require-hashes $$list; \
	else \
		{ [ -x $(PY) ] && $(PY) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv; } && \
		echo $$build > .venv/.torch_build && \
		$(PY) -m pip install --disable-pip-version-check --require-hashes -r $$list; \
	fi
	@touch $@

reproduce-paper: setup ## the paper's tables and figures, on every dataset that is ready (DATASETS= SEEDS= QUICK=1 SUITE= JOBS=)
	$(PY) -m benchmarks reproduce --jobs $(JOBS) $(if $(SUITE),--suite $(SUITE)) $(if $(DATASETS),--datasets $(DATASETS)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(filter-out 0,$(QUICK)),--quick) $(if $(DEVICE),--device $(DEVICE)) \
		$(if $(RESULTS),--results $(RESULTS))

compare: setup ## all methods in one ranked table (METHODS= DATASET= FUSION= SEEDS= JOBS=)
	$(PY) -m benchmarks compare methods=$(or $(METHODS),all) dataset=$(or $(DATASET),synthav) fusion=$(or $(FUSION),concat) \
		seeds=$(or $(SEEDS),3) --jobs $(JOBS) $(if $(DEVICE),--device $(DEVICE)) $(if $(RESULTS),--results $(RESULTS))

tune: setup ## all methods, each tuned with the same number of trials (METHODS= DATASET= FUSION= TRIALS= SEEDS= JOBS=)
	$(PY) -m benchmarks tune methods=$(or $(METHODS),all) dataset=$(or $(DATASET),synthav) fusion=$(or $(FUSION),concat) \
		trials=$(or $(TRIALS),8) seeds=$(or $(SEEDS),5) --jobs $(JOBS) $(if $(DEVICE),--device $(DEVICE)) \
		$(if $(RESULTS),--results $(RESULTS))

test: setup ## the tests (under 10 minutes on 2 cores)
	$(PY) -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not long"

test-all: setup .work/ray/.ready .work/slurm/.ready ## the tests and the long checks, those that need extras too: hours
	$(PY) -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder
	PYTHONPATH=$(CURDIR)/.work/ray/packages:$(CURDIR)/.work/slurm/packages $(PY) -m pytest -q tests/benchmarks/executors
	$(MAKE) test-trainers test-dashboards test-notebook

# From a copy: a wheel built in place would carry what an earlier build left in build/. The tests get models/ (it needs
# torch alone) and no ogm/, so they import the installed one.
test-plugin: ## ogm as a wheel with torch alone: its contract and foreign training loops (TORCH=2.4.0)
	rm -rf .work/plugin && mkdir -p .work/plugin/source .work/plugin/tests
	cp -r ogm pyproject.toml README.md LICENSE .work/plugin/source
	cp -r models pyproject.toml .work/plugin
	cp --parents tests/__init__.py tests/conftest.py tests/{contract,helpers,ogm}/__init__.py \
		tests/helpers/{engines,methods,own_loop}.py $(PLUGIN_TESTS) .work/plugin
	$(PYTHON) -m venv .work/plugin/venv
	.work/plugin/venv/bin/python -m pip install --disable-pip-version-check --quiet .work/plugin/source \
		torch$(if $(TORCH),==$(TORCH)) pytest pytest-timeout pytest-xdist
	cd .work/plugin && venv/bin/python -m pytest -q -n $(JOBS) -m "not long" $(OLD_TORCH)

test-ray: .work/ray/.ready ## the executor for Ray clusters, with Ray beside the environment
	PYTHONPATH=$(CURDIR)/.work/ray/packages $(PY) -m pytest -q -m "not long" -k ray tests/benchmarks/executors

test-slurm: .work/slurm/.ready ## the executor for Slurm clusters, on a Slurm of this machine where slurmctld, slurmd and munge are
	PYTHONPATH=$(CURDIR)/.work/slurm/packages $(PY) -m pytest -q -m "not long" tests/benchmarks/executors/test_slurm.py

# Extras beside the environment: their packages are none of those that train, and some are newer.
.work/ray/.ready .work/slurm/.ready: .work/%/.ready: pyproject.toml | setup
	rm -rf .work/$*
	$(call packages_of,$*) | \
		if command -v uv > /dev/null; then \
			xargs uv pip install --quiet --python $(PY) --target .work/$*/packages; \
		else \
			xargs $(PY) -m pip install --disable-pip-version-check --quiet --target .work/$*/packages; \
		fi
	@touch $@

test-trainers: .work/trainers/.ready ## ogm in Lightning, Accelerate, Hugging Face's Trainer and Ignite, installed beside the environment
	.work/trainers/bin/python -m pytest -q -n $(JOBS) tests/ogm/test_trainers.py tests/ogm/test_frameworks.py tests/ogm/test_own_loop_page.py

test-dashboards: .work/dashboards/.ready ## runs in TensorBoard, MLflow, trackio and wandb, installed beside the environment
	.work/dashboards/bin/python -m pytest -q tests/benchmarks/callbacks/test_dashboards.py

test-notebook: .work/notebook/.ready ## every cell of docs/your_own_loop.ipynb, with Jupyter's kernel beside the environment
	.work/notebook/bin/python -m pytest -q tests/test_notebook.py

# Extras that need torch or the suite's own packages: an environment that sees the suite's and puts its own first.
EXTRAS_trainers := accelerate ignite lightning transformers
EXTRAS_dashboards := tensorboard mlflow trackio
EXTRAS_notebook := notebook
.work/trainers/.ready .work/dashboards/.ready .work/notebook/.ready: .work/%/.ready: pyproject.toml | setup
	rm -rf .work/$*
	$(PY) -m venv --without-pip .work/$*
	$(PY) -c $(SITE_PACKAGES) > "$$(.work/$*/bin/python -c $(SITE_PACKAGES))/suite.pth"
	$(call packages_of,$(EXTRAS_$*)) | \
		if command -v uv > /dev/null; then \
			xargs uv pip install --quiet --python .work/$*/bin/python; \
		else \
			xargs .work/$*/bin/python -m pip install --disable-pip-version-check --quiet; \
		fi
	@touch $@

SITE_PACKAGES := 'import site; print(*site.getsitepackages())'
packages_of = $(PY) -c "import sys, tomllib; extras = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; print(*(package for extra in sys.argv[1:] for package in extras[extra]))" $(1)

smoke: ## the paper's tables, shortened: a check that everything works together
	WANDB_MODE=offline $(MAKE) reproduce-paper QUICK=1 RESULTS=results/smoke
	test -s results/smoke/runs.csv
	test -s results/smoke/README.md

lint: setup ## style, types, and which package imports which
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports --no-cache --no-logo
	$(PY) -m mypy

bench: setup ## what loading and reading records cost; time, operations and memory of a step of every method, as ratios to vanilla; DEVICE=cuda: instead, all that only a GPU can tell, in under ten minutes
ifneq ($(filter cuda%,$(DEVICE)),)
	$(PY) -m benchmarks bench --gpu --device $(DEVICE)
else
	$(PY) -m benchmarks bench --data
	$(PY) -m benchmarks bench --records 2000
	$(PY) -m benchmarks bench $(if $(DEVICE),--device $(DEVICE))
endif

bench-scale: .work/ray/.ready .work/slurm/.ready ## what many runs cost beside the runs, each figure with its aim; with Ray, and a Slurm of this machine where it is installed
	PYTHONPATH=$(CURDIR)/.work/ray/packages:$(CURDIR)/.work/slurm/packages \
		$(PY) -m tests.helpers.slurm $(PY) -m benchmarks bench --scale

report: setup ## tables, figures and report of a results folder again (RESULTS=results/paper); FOLDERS="A B": one page of several
	$(if $(FOLDERS),$(PY) -m benchmarks page $(FOLDERS) --out $(or $(RESULTS),results)/page.html,\
		$(PY) -m benchmarks tables $(or $(RESULTS),results/paper))

docs: setup .work/docs/.ready ## the documentation site in site/, to be read from its files: open site/index.html
	PYTHONPATH=.work/docs/packages $(PY) -m mkdocs build --strict

# Beside the environment, not in it: what builds pages is no part of what trains.
.work/docs/.ready: requirements-docs.txt | setup
	rm -rf .work/docs
	@if command -v uv > /dev/null; then \
		uv pip install --quiet --python $(PY) --target .work/docs/packages --require-hashes -r requirements-docs.txt; \
	else \
		$(PY) -m pip install --disable-pip-version-check --quiet --target .work/docs/packages --require-hashes -r requirements-docs.txt; \
	fi
	@touch $@

clean: ## remove the environment, checkpoints and caches; results and data stay
	rm -rf .venv .work site .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
