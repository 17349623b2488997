"""The setup script on a machine without a supported Python: the error names the cause and the remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup-env.sh"


@pytest.mark.parametrize(
    ("before", "problem"),
    [
        ("sys.version_info = (3, 9, 2, 'final', 0)", "is Python 3.9.2."),
        ("sys.modules['ensurepip'] = None", "(on Debian and Ubuntu: apt-get install python3-venv)."),
    ],
)
def test_a_python_that_cannot_be_used_is_an_error(tmp_path: Path, before: str, problem: str) -> None:
    python = tmp_path / "python3"
    # Runs a statement before the program that it gets with `-I -c`.
    program = f"import sys; {before}; exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{program}" "$3"\n')
    python.chmod(0o755)

    ran = subprocess.run(
        ["/bin/sh", str(SCRIPT)], cwd=tmp_path, env={"PYTHON": str(python)}, capture_output=True, text=True
    )

    assert ran.returncode != 0
    first, advice = ran.stderr.splitlines()
    assert first.endswith(problem)
    assert advice.startswith("Install Python 3.11 to 3.14")
