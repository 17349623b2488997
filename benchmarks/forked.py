"""Runs a function in a forked child, as Airflow's DAG processor does, and gives what it returned."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a forked child; its result comes back as JSON.

    :raises RuntimeError: where the child failed; its traceback is on stderr.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                json.dump(function(*arguments), pipe)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError(f"the forked child ended with status {status}")
    return json.loads(said)
