# Every command of this project; the work itself is done by scripts/.

VENV := .venv
RUN := $(VENV)/bin/python

# A user's own Python settings must not reach the tools; without bytecode files Airflow starts three times slower.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV
# uv trusts the certificates that it brings; with this, those of the machine, as pip does.
export UV_SYSTEM_CERTS := 1
# Passed on to scripts/setup-env.sh: make PYTHON=/path/to/python3 demo
export PYTHON

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo playground sandbox test lint types pytest matrix bench pictures faults coverage floors audit format build constraints setup clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F '|' '{ printf "%-20s %s\n", $$1, $$2 }'

demo: setup ## run the main example on real Airflow against a local Faraday (PORT=9999 to choose its port)
	@$(RUN) scripts/demo.py $(if $(PORT),--port "$(PORT)")

playground: setup ## start a real Airflow with the examples and a local Faraday, to click around in, until Ctrl-C
	@$(RUN) scripts/playground.py $(if $(PORT),--port "$(PORT)")

sandbox: setup ## start a local Faraday API to try DAGs against, until Ctrl-C (PORT=9999 to choose its port)
	@$(RUN) -m airflow_provider_faraday.sandbox $(if $(PORT),--port "$(PORT)")

test: lint types pytest ## run everything that must pass: lint, types, all tests

lint: setup ## check style and the directions between modules
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache --no-logo

types: setup ## check types, strictly
	$(RUN) -m mypy

pytest: setup ## run all tests (ARGS="-k gate" for some, ARGS="-n0 --pdb" in one process)
	$(RUN) -m pytest -n4 --dist=worksteal $(ARGS)

matrix: setup ## run all tests on every Airflow and Python of the README (ARGS=--list to see them)
	$(RUN) -m nox $(ARGS)

bench: setup ## measure side by side with the peers, into benchmarks/results/ (ARGS=--quick for a smoke test)
	@sh benchmarks/setup-env.sh $(RUN)
	@benchmarks/.venv/bin/python benchmarks/run.py $(ARGS)

faults: setup ## write docs/faults.md anew from the table of faults in the tests
	$(RUN) scripts/fault_page.py

coverage: setup ## measure which lines of the package the unit tests and the DAG runs in this process reach
	$(RUN) -m uv venv --quiet --clear --python $(RUN) build/coverage
	$(RUN) -m uv pip install --quiet --compile-bytecode --python build/coverage/bin/python --editable '.[test]' \
	    pytest-cov==7.0.0 --constraint constraints/airflow-3.3.2.txt
	build/coverage/bin/python -m pytest -n4 --dist=worksteal --cov=airflow_provider_faraday $(or $(ARGS),tests/unit tests/integration/test_composition.py)

floors: setup ## run the unit tests and the examples with the lowest version of every dependency (needs Python 3.11)
	$(RUN) -m uv venv --quiet --clear --python 3.11 build/floors
	$(RUN) -m uv pip install --quiet --compile-bytecode --python build/floors/bin/python --editable '.[test]' \
	    --constraint constraints/floors.txt --build-constraint constraints/floors.txt
	build/floors/bin/python -m pytest $(or $(ARGS),tests/unit tests/integration/test_example_dags.py)

audit: setup ## look the pinned versions up among the known vulnerabilities (needs the network)
	@$(RUN) -m uv tool run --quiet pip-audit@2.10.1 --requirement constraints/airflow-3.3.2.txt --no-deps --disable-pip \
	    --strict --progress-spinner off || { echo "Not clean: either a pinned version has a known vulnerability," \
	    "or the service that knows could not be asked about it; which, stands above." >&2; exit 1; }
pictures: setup ## take the pictures in docs/pictures/ anew, from the UI of a real Airflow (needs Chromium)
	@$(RUN) -m uv run --quiet --script scripts/pictures.py

format: setup ## let ruff reformat and fix what it can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

build: setup ## build the wheel and the sdist into dist/
	$(RUN) -m uv build --build-constraint constraints/airflow-3.3.2.txt

constraints: setup ## resolve the pinned versions of every Airflow and the lowest ones anew (constraints/*.in say what stays)
	@for wanted in constraints/*.in; do \
	    echo "$$wanted" && \
	    $(RUN) -m uv pip compile pyproject.toml "$$wanted" --all-extras --universal --python-version 3.11 --upgrade \
	        --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
	        --output-file "$${wanted%.in}.txt" || exit; \
	done
	# The lowest versions: each `name>=1.2` as `name==1.2`. Old releases of Airflow's http provider have no upper bounds.
	(echo 'apache-airflow-providers-http>=5'; grep -oE '"[a-z0-9-]+>=[0-9.]+"' pyproject.toml | sed 's/"//g; s/>=/==/') | \
	    $(RUN) -m uv pip compile pyproject.toml - --extra test --python-version 3.11 --upgrade --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file constraints/floors.txt

setup:
	@sh scripts/setup-env.sh

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) .nox benchmarks/.venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
