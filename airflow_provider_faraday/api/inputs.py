"""Checks of what a DAG author passes in, before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from itertools import chain
from math import inf
from typing import Any, TypeGuard

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.text import shortened

# Not compiled when they are imported, because few DAG files need them.
_DIRECTORY = r"[A-Za-z0-9_][-A-Za-z0-9_]*"
_EXTENSIONS = ("csv", "txt", "gpg", "pgp", "gz", "bz2")
_FILENAME = rf"[A-Za-z0-9_][-A-Za-z0-9_.]*\.(?i:{'|'.join(_EXTENSIONS)})"
_URL = r"https?://[^\s/?#@]+/[^\s#]*"
_UUID = r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_BROKEN_UUID = r"(?i)\s*[0-9a-f-]{30,38}\s*"


def resource_id(value: object, argument: str) -> str:
    """Return a resource id, a UUID, in lower case.

    :param argument: name of the argument, for the error.
    :raises FaradayInputError: if it is not a UUID.
    """
    text = str(value)
    if not is_resource_id(text):
        raise FaradayInputError(
            f"{argument} must be the UUID of a Faraday resource, such as "
            f"5e0dfa56-2d52-4c06-a870-bc79c71e86a3, but is {excerpt(value)}.\n"
            "Copy the UUID from Faraday's app or API: names are not looked up here."
        )
    return text.lower()


def resource_id_or_name(value: object, argument: str) -> str:
    """Return a resource id in lower case, or the name of a resource.

    :param argument: name of the argument, for the error.
    :raises FaradayInputError: if it is neither, or a name that is more likely a broken UUID or template.
    """
    text = str(value)
    if is_resource_id(text):
        return text.lower()
    if not isinstance(value, str) or _is_misrendered(value) or re.fullmatch(_BROKEN_UUID, value):
        raise FaradayInputError(
            f"{argument} must be the UUID or the exact name of a Faraday resource, but is {excerpt(value)}.\n"
            "Copy it from Faraday's app or API. If it comes from a template, check the rendered value."
        )
    return value


def _is_misrendered(text: str) -> bool:
    """Return whether a string is what a template renders to by mistake, rather than a name."""
    return text.strip() in ("", "None") or text.lstrip().startswith(("[", "{"))


def is_resource_id(value: str) -> bool:
    """Return whether a text is a UUID."""
    return re.fullmatch(_UUID, value) is not None


def resource_ids_or_names(values: object, argument: str) -> list[str]:
    """Return the ids or names of resources, deduplicated, in order.

    :param values: a list of ids, names and dicts with an ``id``; a single one, as a mapped task receives it;
        or a list of lists, as a mapped list operator returns it.
    :param argument: name of the argument, for the error.
    :raises FaradayInputError: if it is anything else.
    """
    is_dict = isinstance(values, dict) and "id" in values
    if is_dict or (isinstance(values, str) and not _is_misrendered(values)):
        values = [values]
    if not is_list(values):
        raise FaradayInputError(
            f"{argument} must be a list of ids or of dicts with an id, but is "
            f"{type(values).__name__} {excerpt(values)}.\n"
            "Pass the list itself. A Jinja template renders to a list only in a DAG with "
            "render_template_as_native_obj=True; the .output of a list operator always does."
        )
    items = chain.from_iterable(item if isinstance(item, (list, tuple)) else [item] for item in values)
    ids = (item.get("id") if isinstance(item, dict) else item for item in items)
    return list(dict.fromkeys(resource_id_or_name(value, f"{argument}[{n}]") for n, value in enumerate(ids)))


def is_list(value: object) -> TypeGuard[Iterable[Any]]:
    """Return whether a value is a list of others, such as a list, a tuple or an XCom of a mapped task."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict))


def field_names(fields: object) -> list[str] | None:
    """Return a ``fields`` argument as a list of names, or None.

    :raises FaradayInputError: if it is anything else, such as a single string or an empty list.
    """
    if fields is None:
        return None
    names = list(fields) if is_list(fields) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise FaradayInputError(
            "fields must be a list of field names, such as ['id', 'name', 'status'], but is "
            f"{type(fields).__name__} {excerpt(fields)}.\nOmit it to get all fields."
        )
    return names


def webhook_url(value: object) -> str:
    """Return a URL that Faraday can send webhooks to.

    :raises FaradayInputError: if it is not an absolute URL.
    """
    # ASCII, because Faraday may encode other characters, so that the URL would not be found in its list.
    if not (isinstance(value, str) and value.isascii() and re.fullmatch(_URL, value)):
        # Without the value, which may have a password.
        raise FaradayInputError(
            "url must be an absolute ASCII URL with a path and without a password, such as "
            "https://airflow.example.com/faraday/webhooks/faraday_default."
        )
    return value


def upload_directory(value: object) -> str:
    """Return the name of a directory for uploads.

    :raises FaradayInputError: if Faraday would not accept it.
    """
    # "None" is what a template renders to by mistake.
    if not isinstance(value, str) or not re.fullmatch(_DIRECTORY, value) or value == "None":
        raise FaradayInputError(
            "directory must be the name of an upload directory, such as 'web_orders', but is "
            f"{excerpt(value)}.\n"
            "Use letters, digits, underscores and hyphens. The first character must not be a hyphen."
        )
    return value


def upload_filename(value: object) -> str:
    """Return the name of a file to upload.

    :raises FaradayInputError: if Faraday would not accept it.
    """
    if not isinstance(value, str) or not re.fullmatch(_FILENAME, value):
        raise FaradayInputError(
            "filename must be a file name that Faraday accepts, such as 'orders.csv', but is "
            f"{excerpt(value)}.\n"
            "Use letters, digits, underscores, hyphens and dots, and one of these extensions: "
            f"{', '.join(_EXTENSIONS)}. The first character must not be a hyphen or a dot."
        )
    return value


def excerpt(value: object) -> str:
    """Return the ``repr`` of a value, cut to a length that fits into an error."""
    return shortened(repr(value), 80)


def seconds(value: Any, argument: str) -> float:
    """Return a duration in seconds.

    :param value: a timedelta, or a number of seconds.
    :raises FaradayInputError: if it is anything else, negative or infinite.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < inf:
        raise FaradayInputError(f"{argument} must be a timedelta or a number of seconds, but is {value!r}.")
    return float(number)
