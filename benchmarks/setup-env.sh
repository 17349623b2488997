#!/bin/sh
# Create or update the virtual environment for the benchmarks. Run it from the root of the repository.
set -eu

python=$1
venv=benchmarks/.venv
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m uv venv --quiet --python "$python" "$venv"
fi
# Install this package from a wheel, as users do. Airflow and its dependencies are pinned; the peers are not.
"$python" -m uv pip install --quiet --compile-bytecode --python "$venv/bin/python" \
    --constraint constraints/airflow-3.3.2.txt --upgrade --reinstall-package airflow-provider-faraday \
    --requirement benchmarks/requirements.txt .
