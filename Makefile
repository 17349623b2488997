# Every command of this project; the work itself is done by scripts/.

VENV := .venv
RUN := $(VENV)/bin/python

# A user's own Python settings must not reach the tools; without bytecode files Airflow starts three times slower.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV
# Passed on to scripts/setup-env.sh: make PYTHON=/path/to/python3 demo
export PYTHON

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo sandbox test lint types pytest bench format build constraints setup clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F '|' '{ printf "%-20s %s\n", $$1, $$2 }'

demo: setup ## run the main example on real Airflow against a local Faraday (PORT=9999 to choose its port)
	@$(RUN) scripts/demo.py $(if $(PORT),--port "$(PORT)")

sandbox: setup ## start a local Faraday API to try DAGs against, until Ctrl-C (PORT=9999 to choose its port)
	@$(RUN) -m airflow_provider_faraday.sandbox $(if $(PORT),--port "$(PORT)")

test: lint types pytest ## run everything that must pass: lint, types, all tests

lint: setup ## check style and the directions between modules
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache --no-logo

types: setup ## check types, strictly
	$(RUN) -m mypy

pytest: setup ## run all tests (ARGS="-k gate" for some)
	$(RUN) -m pytest $(ARGS)

bench: setup ## measure side by side with the peers, into benchmarks/results/ (ARGS=--quick for a smoke test)
	@sh benchmarks/setup-env.sh $(RUN)
	@benchmarks/.venv/bin/python benchmarks/run.py $(ARGS)

format: setup ## let ruff reformat and fix what it can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

build: setup ## build the wheel and the sdist into dist/
	$(RUN) -m uv build --build-constraint constraints/airflow-3.3.2.txt

constraints: setup ## resolve the pinned versions anew (Airflow itself stays)
	echo 'apache-airflow==3.3.2' | $(RUN) -m uv pip compile pyproject.toml - --all-extras --universal \
	    --python-version 3.11 --upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
	    --output-file constraints/airflow-3.3.2.txt

setup:
	@sh scripts/setup-env.sh

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) benchmarks/.venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
