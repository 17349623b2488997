# All commands of this project; most of them call scripts/.

VENV := .venv
RUN := $(VENV)/bin/python

# Keep the user's Python settings out. Without bytecode files, Airflow takes three times as long to start.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV
# Make uv trust the system's certificates, as pip does, not its bundled ones.
export UV_SYSTEM_CERTS := 1
# Read by scripts/setup-env.sh: make PYTHON=/path/to/python3 demo
export PYTHON

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo playground sandbox test lint types pytest docs matrix cluster bench api live constraints build clean setup

# The comments that start with ## are its text.
help:
	@awk -F ':.*## ' '/^## / { print substr($$0, 4) } /^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

## For users:

demo: setup ## run two examples on real Airflow against a local Faraday API
	@$(RUN) scripts/demo.py

playground: setup ## run Airflow with the examples and a local Faraday API until Ctrl-C
	@$(RUN) scripts/playground.py

sandbox: setup ## run a local Faraday API until Ctrl-C (PORT=9999 sets its port)
	@$(RUN) -m airflow_provider_faraday.sandbox $(if $(PORT),--port "$(PORT)")

## For contributors:

test: lint types pytest ## run the linters, the type checker and all tests

lint: setup ## check style, formatting, the import rules and the GitHub workflows (FIX=1 fixes the first two)
	$(RUN) -m ruff check $(if $(FIX),--fix) .
	$(RUN) -m ruff format $(if $(FIX),,--check) .
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(VENV)/bin/zizmor --offline --quiet .github

types: setup ## run mypy in strict mode
	$(RUN) -m mypy

pytest: setup ## run all tests (ARGS="-k retry" selects some, ARGS="-n0 --pdb" debugs)
	$(RUN) -m pytest -n4 --dist=worksteal $(ARGS)

docs: setup build/docs/.up-to-date ## build the documentation site into build/site
	NO_MKDOCS_2_WARNING=1 build/docs/bin/python -m mkdocs build

build/docs/.up-to-date: constraints/docs.txt
	$(RUN) -m venv --clear build/docs
	build/docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

matrix: setup ## run the tests on every supported Airflow and Python (ARGS=--list lists all sessions)
	$(RUN) -m nox $(ARGS)

cluster: setup ## run everything on Celery, PostgreSQL and Redis, under faults (ARGS="-- --rounds 5" repeats them)
	$(RUN) -m nox --session cluster $(ARGS)

bench: setup ## measure the figures of docs/performance.md, in about 10 minutes (ARGS=--quick for a smoke test)
	@sh benchmarks/setup-env.sh $(RUN)
	@benchmarks/.venv/bin/python benchmarks/run.py $(ARGS)

api: setup ## compare the tests' copy of Faraday's published API with the current one (needs the network)
	@$(RUN) scripts/published_api.py $(ARGS)

live: setup ## test the assumptions about the live service (needs an API key, see docs/verified.md)
	@AIRFLOW_HOME="$${AIRFLOW_HOME:-$(CURDIR)/build/airflow}" $(RUN) scripts/live.py $(ARGS)

constraints: setup ## update all pinned versions in constraints/
	@for wanted in constraints/*.in; do \
	    echo "$$wanted" && \
	    $(RUN) -m uv pip compile pyproject.toml "$$wanted" --all-extras --universal --python-version 3.11 --upgrade \
	        --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
	        --output-file "$${wanted%.in}.txt" || exit; \
	done
	$(RUN) -m uv pip compile --group docs --universal --python-version 3.11 --upgrade --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --quiet --output-file constraints/docs.txt
	# Minimum versions: replace each `name>=1.2` with `name==1.2`. Old releases of Airflow's HTTP provider have no
	# upper bounds, so exclude them. Airflow 2.11.0 does not work with universal-pathlib 0.3, but allows it.
	(printf '%s\n' 'apache-airflow-providers-http>=5' 'universal-pathlib<0.3'; \
	    grep -oE '"[a-z0-9-]+>=[0-9.]+"' pyproject.toml | sed 's/"//g; s/>=/==/') | \
	    $(RUN) -m uv pip compile pyproject.toml - --extra test --python-version 3.11 --upgrade --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file constraints/floors.txt
	(echo apache-airflow==3.3.2; grep -oE '"apache-airflow-providers-common-compat>=[0-9.]+"' pyproject.toml | \
	    sed 's/"//g; s/>=/==/') | \
	    $(RUN) -m uv pip compile pyproject.toml - --extra test --python-version 3.11 --upgrade --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file constraints/floors-newest.txt

build: setup ## build the wheel and the sdist into dist/
	$(RUN) -m uv build --build-constraint constraints/airflow-3.3.2.txt

clean: ## remove the virtual environments and all build output
	rm -rf $(VENV) .nox benchmarks/.venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup:
	@sh scripts/setup-env.sh
