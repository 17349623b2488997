"""The setup script on a machine without a supported Python: the error names the cause and the remedy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup-env.sh"
# The other commands that the script calls. It must not find the machine's Pythons.
COMMANDS = ["cat", "cksum", "echo", "head", "rm"]


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """Return a directory to use as the whole ``PATH``."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).symlink_to(shutil.which(name))
    return commands


def run_setup(bare_machine: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    return subprocess.run(
        ["/bin/sh", str(SCRIPT)],
        cwd=bare_machine.parent,
        env={**env, "PATH": str(bare_machine), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def fake_python(path: Path, before: str) -> None:
    """Create a ``python3`` that runs a statement before the program that it gets with ``-I -c``."""
    program = f"import sys; {before}; exec(sys.argv[1])"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{program}" "$3"\n')
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("before", "problem"),
    [
        ("sys.version_info = (3, 9, 2, 'final', 0)", "is Python 3.9.2."),
        ("sys.modules['ensurepip'] = None", "(on Debian and Ubuntu: apt-get install python3-venv)."),
    ],
)
def test_says_why_a_python_cannot_be_used(bare_machine: Path, before: str, problem: str) -> None:
    fake_python(bare_machine / "python3", before)

    ran = run_setup(bare_machine)

    assert ran.returncode != 0
    first, advice = ran.stderr.splitlines()
    assert f"{bare_machine}/python3 is Python " in first
    assert first.endswith(problem)
    assert advice.startswith("Install Python 3.11 to 3.14")
