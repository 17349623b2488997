"""Run a function in a forked process, as Airflow's DAG processor does."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a forked process, and return its result, which must be serializable as JSON.

    :raises RuntimeError: if the function fails; its traceback goes to stderr.
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
        result = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError(f"The forked process exited with status {status}.")
    return json.loads(result)
