# make demo      install the package and see it work: ARGS="--seed 7 --json"
# make test      install what the tests need, run them; what is missing on this machine is skipped, and named
# make check     lint, type, layers, and the tests with their coverage
# With CI=true everything is installed, as tests/constraints.txt pins it, and what is missing fails.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Processes that the tests run in; the tests of one directory stay in one, and in the order in which they stand.
JOBS ?= 3
LEAST_COVERAGE := 85

RUN := $(VENV)/bin/python
PYTEST := pytest --numprocesses $(JOBS) --dist loadscope --no-loadscope-reorder
EXTRAS := test
CONSTRAINTS :=
ifeq ($(CI),true)
EXTRAS := panns,mic,train,test
CONSTRAINTS := --constraint tests/constraints.txt
export PYTEST_ADDOPTS := -p tests.required_parts $(PYTEST_ADDOPTS)
endif

# The processes share the cores: none of them is to have a thread on each.
test coverage: export OMP_NUM_THREADS ?= 1

# What is installed is known by the content of these files, so that neither a checkout nor a moved directory misleads.
KEY := $(shell { pwd; cat pyproject.toml tests/constraints.txt; } | cksum | cut -d ' ' -f 1)
BASE := $(VENV)/.installed-$(KEY)
TESTS := $(VENV)/.installed-$(KEY)-$(EXTRAS)

.PHONY: demo install test lint type layers coverage check clean
.DELETE_ON_ERROR:

demo: $(BASE)
	$(RUN) -m monitor demo $(ARGS)

install: $(BASE)

test: $(TESTS)
	$(RUN) -m $(PYTEST) $(ARGS)

lint: $(TESTS)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

type: $(TESTS)
	$(RUN) -m mypy

layers: $(TESTS)
	$(VENV)/bin/lint-imports

coverage: $(TESTS)
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m $(PYTEST) $(ARGS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report --skip-covered --fail-under=$(LEAST_COVERAGE)

check: lint type layers coverage

clean:
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build

$(RUN):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit("monitor needs Python 3.11 or newer, $(PYTHON) is %d.%d: \
	make PYTHON=python3.11 ..." % v[:2] if v < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'Python cannot make virtual environments: on Debian and' \
	'Ubuntu, apt install python3-venv' >&2; exit 1; }

$(BASE): | $(RUN)
	@echo 'Installing into $(VENV), once ...' >&2
	@$(RUN) -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable .
	@touch $@

$(TESTS): | $(RUN)
	@echo 'Installing into $(VENV) with [$(EXTRAS)], once ...' >&2
	@$(RUN) -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	@touch $@ $(BASE)
