"""Run the project's scripts as a user does: in a new process, with their temporary files in one place."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def start(script: str, *arguments: str, temporary: Path) -> subprocess.Popen[str]:
    """Start a script in the background.

    :param script: its path
    :param temporary: the directory for its temporary files
    """
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)},
    )


def run(script: str, *arguments: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    """Run a script and return its exit status and output."""
    process = start(script, *arguments, temporary=temporary)
    try:
        out, err = process.communicate()
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
