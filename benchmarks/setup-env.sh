#!/bin/sh
# Makes the virtual environment in which this package and its peers are measured; run from the repository's root.
set -eu

python=$1
venv=benchmarks/.venv
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m uv venv --quiet --python "$python" "$venv"
fi
# Built and installed as users get it. Airflow and its libraries are pinned; the peers are the current versions.
"$python" -m uv pip install --quiet --compile-bytecode --python "$venv/bin/python" \
    --constraint constraints/airflow-3.3.2.txt --upgrade --reinstall-package airflow-provider-faraday \
    --requirement benchmarks/requirements.txt .
