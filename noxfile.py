"""The matrix: every Airflow and Python that the README names, each in an environment of its own."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed
from nox.logger import logger

CONSTRAINTS = Path("constraints")
NEWEST, *OLDER = sorted(
    (path.stem.removeprefix("airflow-") for path in CONSTRAINTS.glob("airflow-*.in")),
    key=lambda version: [int(part) for part in version.split(".")],
    reverse=True,
)
PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
# The Python of .venv, in which this runs.
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"

# pyenv's own names come first on the PATH and end in an error for each Python that is not switched on.
_PYENV = [str(path) for python in PYTHONS for path in Path.home().glob(f".pyenv/versions/{python}.*/bin")]
os.environ["PATH"] = os.pathsep.join([*_PYENV, os.environ["PATH"]])

FOUND = [python for python in PYTHONS if python == OWN or shutil.which(f"python{python}")]
for python in PYTHONS:
    if python not in FOUND:
        logger.warning(f"*** Python {python} is NOT FOUND on the PATH or in ~/.pyenv: not tested. ***")
# The newest on every Python. The older ones on the oldest: they do not know the newest.
MATRIX = [(python, NEWEST) for python in PYTHONS] + [(FOUND[0], airflow) for airflow in OLDER]

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"


@nox.session(venv_params=["--seed"])
@nox.parametrize("python,airflow", MATRIX)
def tests(session: nox.Session, airflow: str) -> None:
    """Run the tests on one Airflow and one Python."""
    constraints = CONSTRAINTS / f"airflow-{airflow}.txt"
    wanted = [
        f"--constraint={constraints}",
        f"--requirement={CONSTRAINTS / f'airflow-{airflow}.in'}",
        "--editable=.[test]",
    ]
    try:
        session.install("--quiet", "--compile-bytecode", f"--build-constraint={constraints}", *wanted)
    except CommandFailed:
        # uv reads none of pip's settings (mirrors, proxies, certificates): where it cannot reach the
        # packages, pip gets them, in minutes rather than seconds.
        session.run("python", "-m", "pip", "install", "--quiet", *wanted)
    everything = airflow == NEWEST and session.python == OWN
    selected = [] if everything else ["-m", "not once"]
    # Most tests wait most of the time: four at once are fine on two cores.
    session.run("python", "-m", "pytest", "-n4", "--dist=worksteal", *selected, *session.posargs)
