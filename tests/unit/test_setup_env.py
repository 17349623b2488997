"""What a person sees whose machine has no Python to use: one sentence, and a status that is not 0."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup-env.sh"
# Everything else that the script calls; of the machine's own Pythons it must see none.
COMMANDS = ["cat", "cksum", "echo", "head", "rm"]


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """Give a directory that is all of ``PATH``."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).symlink_to(shutil.which(name))
    return commands


def set_up(bare_machine: Path, **variables: str) -> subprocess.CompletedProcess[str]:
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


def stand_in(path: Path, before: str) -> None:
    """Make a ``python3`` that runs a statement before whatever it is given with ``-I -c``."""
    program = f"import sys; {before}; exec(sys.argv[1])"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{program}" "$3"\n')
    path.chmod(0o755)


def test_no_python(bare_machine: Path) -> None:
    ran = set_up(bare_machine)

    assert ran.returncode != 0
    assert ran.stderr.startswith("No Python found")
    assert "install Python 3.11, 3.12 or 3.13" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_python_that_is_too_old_is_named_with_its_version(bare_machine: Path) -> None:
    stand_in(bare_machine / "python3", "sys.version_info = (3, 9, 2, 'final', 0)")

    ran = set_up(bare_machine)

    assert ran.returncode != 0
    assert f"{bare_machine}/python3 is Python 3.9.2; install Python 3.11" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_python_without_ensurepip_is_told_what_to_install(bare_machine: Path) -> None:
    stand_in(bare_machine / "python3", "sys.modules['ensurepip'] = None")

    ran = set_up(bare_machine)

    assert ran.returncode != 0
    assert "without venv and ensurepip (on Debian and Ubuntu: apt-get install python3-venv)" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_python_that_is_named_but_not_there(bare_machine: Path) -> None:
    ran = set_up(bare_machine, PYTHON="/nowhere/python3")

    assert ran.returncode != 0
    assert "looked for /nowhere/python3" in ran.stderr
