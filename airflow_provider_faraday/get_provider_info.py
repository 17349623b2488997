"""The provider's metadata for Airflow, which imports no other module to read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, in the format of Airflow's ``provider_info.schema.json``.

    Airflow 2 reads ``dataset-uris`` instead of ``asset-uris``. Airflow 3.2 and later read the connection form
    from here. For older versions, ``FaradayHook`` returns the same.
    """
    info: dict[str, Any] = json.loads(Path(__file__).with_name("provider_info.json").read_text("utf-8"))
    return info
