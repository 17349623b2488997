#!/bin/sh
# Create or update the virtual environment for the make targets. Do nothing if it is up to date.
set -eu

venv=.venv
constraints=constraints/airflow-3.3.2.txt
stamp=$venv/.up-to-date

fail() {
    echo "$*" >&2
    exit 1
}

# Print the version of a supported Python, or the reason that another one is not supported.
describe() {
    "$1" -I -c '
import sys
found = "%d.%d.%d" % sys.version_info[:3]
if not (3, 11) <= sys.version_info[:2] < (3, 15):
    sys.exit("is Python " + found)
try:
    import ensurepip, venv
except ImportError:
    sys.exit("is Python " + found + " without venv and ensurepip (on Debian and Ubuntu: apt-get install python3-venv)")
print(found)
' 2>&1 || true
}

advice="Install Python 3.11 to 3.14 with venv, or choose one: make PYTHON=/path/to/python3 ..."

find_python() {
    seen=""
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        path=$(command -v "$candidate") || continue
        found=$(describe "$path")
        case $found in
            [0-9]*.[0-9]*.[0-9]*) python=$path version=$found; return ;;
            "is Python"*) seen="$seen; $path $found" ;;
        esac
    done
    if [ -z "$seen" ]; then
        fail "No Python found. Looked for: ${PYTHON:-python3, python3.14, python3.13, python3.12, python3.11}.
$advice"
    fi
    fail "No supported Python found: ${seen#; }.
$advice"
}

find_python
# The stamp includes the path, because a virtual environment breaks when it is moved or copied.
stamp_text="$version $(pwd) $(cat pyproject.toml airflow_provider_faraday/__init__.py "$constraints" | cksum)"
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$stamp_text" ]; then
    exit 0
fi

echo "Setting up $venv with Python $version ($python) ..."
[ -d "$venv" ] || echo "This downloads about 130 MB, takes one to two minutes, and needs 500 MB of disk space."
rm -f "$stamp"
case $("$venv/bin/python" -V 2>/dev/null || true) in
    "Python $version") [ "$(head -n 1 "$venv/.made-in" 2>/dev/null)" = "$(pwd)" ] || rm -rf "$venv" ;;
    *) rm -rf "$venv" ;;
esac
if [ ! -d "$venv" ]; then
    "$python" -m venv "$venv" || fail "'$python -m venv' failed. See above."
    pwd > "$venv/.made-in"
fi

pip_install="$venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip_install --constraint "$constraints" uv || fail "pip could not install uv. See above, and check the network."
# uv takes seconds where pip takes minutes, but it ignores pip's settings (mirrors, proxies, certificates). If it
# cannot reach the index, fall back to pip.
"$venv/bin/python" -m uv pip install --quiet --compile-bytecode --python "$venv/bin/python" \
    --constraint "$constraints" --build-constraint "$constraints" --editable '.[dev]' ||
    $pip_install --constraint "$constraints" --editable '.[dev]' ||
    fail "Could not install the packages. See above."
echo "$stamp_text" > "$stamp"
