#!/bin/sh
# Makes the virtual environment that every make target runs in; does nothing when it is already up to date.
set -eu

venv=.venv
constraints=constraints/airflow-3.3.2.txt
stamp=$venv/.up-to-date

fail() {
    echo "$*" >&2
    exit 1
}

# A usable Python prints its version; any other prints what it lacks. A name that is no program prints nothing.
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

find_python() {
    seen=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        path=$(command -v "$candidate") || continue
        found=$(describe "$path")
        case $found in
            [0-9]*.[0-9]*.[0-9]*) python=$path version=$found; return ;;
            "is Python"*) seen="$seen; $path $found" ;;
        esac
    done
    if [ -z "$seen" ]; then
        fail "No Python found (looked for ${PYTHON:-python3, python3.13, python3.12, python3.11}); install Python 3.11, 3.12 or 3.13, or name one with 'make PYTHON=/path/to/python3'."
    fi
    fail "No Python that can be used: ${seen#; }; install Python 3.11, 3.12 or 3.13 with venv, or name one with 'make PYTHON=/path/to/python3'."
}

find_python
# The path is part of it because an environment that was moved or copied points at the old place.
wanted="$version $(pwd) $(cat pyproject.toml airflow_provider_faraday/__init__.py "$constraints" | cksum)"
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

echo "Setting up $venv with Python $version ($python) ..."
rm -f "$stamp"
case $("$venv/bin/python" -V 2>/dev/null || true) in
    "Python $version") [ "$(head -n 1 "$venv/.made-in" 2>/dev/null)" = "$(pwd)" ] || rm -rf "$venv" ;;
    *) rm -rf "$venv" ;;
esac
if [ ! -d "$venv" ]; then
    "$python" -m venv "$venv" || fail "'$python -m venv' failed (see above)."
    pwd > "$venv/.made-in"
fi

pip_install="$venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip_install --constraint "$constraints" uv || fail "pip could not install uv (see above); is the network there?"
# uv needs seconds where pip needs minutes; but it reads none of pip's settings (mirrors, proxies, certificates),
# so where it cannot reach the packages, pip gets them.
"$venv/bin/python" -m uv pip install --quiet --compile-bytecode --python "$venv/bin/python" \
    --constraint "$constraints" --build-constraint "$constraints" --editable '.[dev]' ||
    $pip_install --constraint "$constraints" --editable '.[dev]' ||
    fail "The packages could not be installed (see above)."
echo "$wanted" > "$stamp"
