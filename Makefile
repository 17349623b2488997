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
.PHONY: help demo playground sandbox test lint types docs pytest matrix cluster api live bench pictures coverage floors audit format build constraints setup clean

help: ## list all commands
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F '|' '{ printf "%-20s %s\n", $$1, $$2 }'

demo: setup ## run the main example on real Airflow against a local Faraday API (PORT=9999 sets its port)
	@$(RUN) scripts/demo.py $(if $(PORT),--port "$(PORT)")

playground: setup ## run Airflow with the examples and a local Faraday API until Ctrl-C (PORT=9999 sets the UI's port)
	@$(RUN) scripts/playground.py $(if $(PORT),--port "$(PORT)")

sandbox: setup ## run a local Faraday API until Ctrl-C (PORT=9999 sets its port)
	@$(RUN) -m airflow_provider_faraday.sandbox $(if $(PORT),--port "$(PORT)")

test: lint types pytest ## run the linters, the type checker and all tests

lint: setup ## check style, formatting, the import rules and the GitHub workflows
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(VENV)/bin/zizmor --offline --quiet .github

types: setup ## run mypy in strict mode
	$(RUN) -m mypy

docs: setup build/docs/.up-to-date ## build the documentation site into build/site
	NO_MKDOCS_2_WARNING=1 build/docs/bin/python -m mkdocs build

build/docs/.up-to-date: constraints/docs.txt
	$(RUN) -m venv --clear build/docs
	build/docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

pytest: setup ## run all tests (ARGS="-k retry" selects some, ARGS="-n0 --pdb" debugs)
	$(RUN) -m pytest -n4 --dist=worksteal $(ARGS)

matrix: setup ## run the tests on every supported Airflow and Python (ARGS=--list lists them)
	$(RUN) -m nox $(ARGS)

cluster: setup ## run everything at once on Celery, PostgreSQL and Redis, under faults (ARGS="-- --rounds 5" repeats them)
	$(RUN) -m nox --session cluster $(ARGS)

bench: setup ## measure the figures of docs/performance.md, in about 10 minutes (ARGS=--quick for a smoke test)
	@sh benchmarks/setup-env.sh $(RUN)
	@benchmarks/.venv/bin/python benchmarks/run.py $(ARGS)

coverage: setup ## measure the coverage of the tests that run in a single process
	$(RUN) -m uv venv --quiet --clear --python $(RUN) build/coverage
	$(RUN) -m uv pip install --quiet --compile-bytecode --python build/coverage/bin/python --editable '.[test]' \
	    pytest-cov==7.0.0 --constraint constraints/airflow-3.3.2.txt
	build/coverage/bin/python -m pytest -n4 --dist=worksteal --cov=airflow_provider_faraday $(or $(ARGS),tests/unit tests/integration/test_composition.py)

floors: build/floors build/floors-newest ## run the unit tests and the examples with minimum versions (needs Python 3.11)

# All minimum versions, and the newest Airflow with the minimum version of common-compat.
build/floors build/floors-newest: setup
	$(RUN) -m uv venv --quiet --clear --python 3.11 $@
	$(RUN) -m uv pip install --quiet --compile-bytecode --python $@/bin/python --editable '.[test]' \
	    --constraint constraints/$(@F).txt --build-constraint constraints/$(@F).txt
	$@/bin/python -m pytest $(or $(ARGS),tests/unit tests/integration/test_example_dags.py)

audit: setup ## check the pinned versions for known vulnerabilities (needs the network)
	@$(RUN) -m uv tool run --quiet pip-audit@2.10.1 --requirement constraints/airflow-3.3.2.txt --no-deps --disable-pip \
	    --strict --progress-spinner off || { echo "The audit failed: a pinned version has a known vulnerability," \
	    "or the vulnerability service could not be reached. See above." >&2; exit 1; }

api: setup ## compare what the tests know of Faraday's published API with the current one (needs the network)
	@$(RUN) scripts/published_api.py $(ARGS)

live: setup ## ask the live service what we assume of it (needs an API key, see docs/verified.md; ARGS=--write asks more)
	@AIRFLOW_HOME="$${AIRFLOW_HOME:-$(CURDIR)/build/airflow}" $(RUN) scripts/live.py $(ARGS)

pictures: setup ## retake the screenshots in docs/pictures/ (needs Chromium; ARGS=sandbox takes one)
	@$(RUN) -m uv run --quiet --script scripts/pictures.py $(ARGS)

format: setup ## reformat the code and apply automatic fixes
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

build: setup ## build the wheel and the sdist into dist/
	$(RUN) -m uv build --build-constraint constraints/airflow-3.3.2.txt

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

setup:
	@sh scripts/setup-env.sh

clean: ## remove the virtual environments and all build output
	rm -rf $(VENV) .nox benchmarks/.venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
