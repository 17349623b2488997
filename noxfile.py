"""The test matrix: each supported combination of Airflow and Python runs in its own environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed
from nox.logger import logger
from packaging.version import Version

CONSTRAINTS = Path("constraints")
AIRFLOWS = sorted(
    (path.stem.removeprefix("airflow-") for path in CONSTRAINTS.glob("airflow-*.in")),
    key=Version,
    reverse=True,
)
NEWEST, *OLDER = (version for version in AIRFLOWS if not Version(version).is_prerelease)
PRERELEASES = [version for version in AIRFLOWS if Version(version).is_prerelease]
PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
# The Python of .venv, which runs this file.
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"

# Look up pyenv's Pythons first: its shims are on the PATH for every version, but fail for inactive ones.
_PYENV = [str(path) for python in PYTHONS for path in Path.home().glob(f".pyenv/versions/{python}.*/bin")]
os.environ["PATH"] = os.pathsep.join([*_PYENV, os.environ["PATH"]])

FOUND = [python for python in PYTHONS if python == OWN or shutil.which(f"python{python}")]
for python in PYTHONS:
    if python not in FOUND:
        logger.warning(f"Python {python} was not found on the PATH or in ~/.pyenv. Its tests will NOT run.")
# The databases of the cluster have wheels for these only.
CLUSTER = [python for python in FOUND if python in ("3.11", "3.12")][:1]
# Run the newest Airflow on every Python. Older ones do not support every Python, so run them on the oldest.
MATRIX = [(python, NEWEST) for python in PYTHONS] + [(FOUND[0], airflow) for airflow in OLDER]

# The newest Airflow with our own Python runs all tests. The others leave out what cannot end differently.
TESTS = Path("tests")
# These depend neither on Airflow nor on the version of Python.
PURE = [
    TESTS / "unit" / name
    for name in (
        *("api", "sandbox", "test_docs.py", "test_live.py", "test_project_files.py", "test_published_api.py"),
        *("test_published_document.py", "test_setup_env.py"),
    )
]
# These depend on Python, but hardly on Airflow: an older one runs the tests of triggers and sensors instead.
CLIENTS = [
    TESTS / "unit" / name for name in ("client/test_aiohttp_client.py", "client/test_faults.py", "waiting")
]
# The code blocks of the documentation run on the newest and on the oldest Airflow.
DOCS = TESTS / "integration" / "test_docs.py"
# Another Python runs what depends on it most: HTTP clients, event loops, files, and the examples.
PYTHON = [
    *(TESTS / "unit" / name for name in ("client", "hooks", "transfers", "triggers", "waiting")),
    TESTS / "integration" / "test_example_dags.py",
]

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
# The workflow installs every Python, so a missing one is an error there. On other machines it is skipped.
nox.options.error_on_missing_interpreters = os.environ.get("GITHUB_ACTIONS") == "true"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]


@nox.session(venv_params=["--seed"])
@nox.parametrize("python,airflow", MATRIX)
def tests(session: nox.Session, airflow: str) -> None:
    """Run the tests on one Airflow and one Python."""
    _install(session, f"airflow-{airflow}")
    selected: list[str | Path] = []
    if airflow != NEWEST:
        ignored = [*PURE, *CLIENTS, *([DOCS] if airflow != OLDER[-1] else [])]
        selected = ["-m", "not once", *(f"--ignore={path}" for path in ignored)]
    elif session.python != OWN:
        selected = ["-m", "not once", *PYTHON]
    # Many tests wait for something, so four processes suit two cores.
    session.run("python", "-m", "pytest", "-n4", "--dist=worksteal", *selected, *session.posargs)


@nox.session(venv_params=["--seed"])
@nox.parametrize("python,airflow", [(FOUND[0], airflow) for airflow in PRERELEASES])
def prereleases(session: nox.Session, airflow: str) -> None:
    """Run the tests on an Airflow that is not final yet. Not part of the matrix: they may fail."""
    tests(session, airflow)


@nox.session(venv_params=["--seed"], python=CLUSTER or False)
def cluster(session: nox.Session) -> None:
    """Run a deployment with Celery, PostgreSQL and Redis, and everything in it at once."""
    if not CLUSTER:
        session.skip("PostgreSQL and Redis have packages for Python 3.11 and 3.12 only. Neither was found.")
    _install(session, "cluster")
    session.run("python", "-m", "pytest", "tests/cluster", *session.posargs)


@nox.session(venv_params=["--seed"], python="3.11")
@nox.parametrize("name", ["floors", "floors-newest"])
def floors(session: nox.Session, name: str) -> None:
    """Run the unit tests and the examples with minimum versions of all dependencies, or of common-compat."""
    _install(session, name)
    selected = session.posargs or ["tests/unit", "tests/integration/test_example_dags.py"]
    session.run("python", "-m", "pytest", *selected)


@nox.session(venv_params=["--seed"])
def coverage(session: nox.Session) -> None:
    """Measure the coverage of the tests that run in a single process."""
    _install(session, f"airflow-{NEWEST}", "pytest-cov==7.0.0")
    selected = session.posargs or ["tests/unit", "tests/integration/test_composition.py"]
    session.run(
        *("python", "-m", "pytest", "-n4", "--dist=worksteal", "--cov=airflow_provider_faraday", *selected)
    )


@nox.session
def audit(session: nox.Session) -> None:
    """Check the pinned versions for known vulnerabilities. Needs the network."""
    session.install("--quiet", "pip-audit==2.10.1")
    pins = f"--requirement={CONSTRAINTS}/airflow-{NEWEST}.txt"
    session.run("pip-audit", pins, "--no-deps", "--disable-pip", "--strict", "--progress-spinner=off")


def _install(session: nox.Session, name: str, *more: str) -> None:
    """Install this package, and the requirements ``constraints/<name>.in`` if any, with pinned versions."""
    constraints, wanted = CONSTRAINTS / f"{name}.txt", CONSTRAINTS / f"{name}.in"
    requirements = [
        f"--constraint={constraints}",
        *([f"--requirement={wanted}"] if wanted.exists() else []),
        "--editable=.[test]",
        *more,
    ]
    try:
        session.install("--quiet", "--compile-bytecode", f"--build-constraint={constraints}", *requirements)
    except CommandFailed:
        # uv ignores pip's settings (mirrors, proxies, certificates). If it cannot reach the index, fall back
        # to pip, which takes minutes instead of seconds.
        session.run_install("python", "-m", "pip", "install", "--quiet", *requirements)
