"""Faraday's list of uploads: times, checksums and versions."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Any

import pytest

from airflow_provider_faraday.api import endpoints, uploads
from airflow_provider_faraday.api.responses import Response
from airflow_provider_faraday.exceptions import FaradayInputError

MD5 = "0123456789abcdef0123456789abcdef"
LISTED = "2026-11-25T03:00:00.500Z"


def listed(created_at: str = LISTED, **fields: Any) -> uploads.Upload:
    return uploads.Upload("d/a.csv", 3, **{"md5": MD5, "created_at": created_at} | fields)


def test_a_size_is_any_json_number() -> None:
    body = b'[{"subpath": "d/a.csv", "file_size": 3.0, "md5_hash": "%s"}]' % MD5.encode()
    (upload,) = uploads.decode_uploads(Response(200, {}, body))
    assert upload.is_copy_of(3, MD5)


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        ("2026-11-25T05:00:00.000+02:00", "2026-11-25T03:00:00+00:00"),
        # Without fractions, builds that finished within the same second must not count.
        ("2026-11-25T03:00:00Z", "2026-11-25T03:00:01+00:00"),
    ],
)
def test_a_time_excludes_earlier_builds(created_at: str, expected: str) -> None:
    assert str(listed(created_at).uploaded_at) == expected.replace("T", " ")


@pytest.mark.parametrize(
    ("created_at", "responded_at", "expected"),
    [
        (LISTED, "03:00:00", "03:00:00.500"),
        # Stamped at the end of one second, answered at the beginning of the next.
        ("2026-11-25T02:59:59.999Z", "03:00:00", "02:59:59.999"),
        # Object stores stamp large files when their upload begins.
        (LISTED, "03:10:00", "03:10:01"),
        (LISTED, None, "03:00:00.500"),
        ("soon", "03:10:00", "03:10:01"),
        ("soon", None, None),
    ],
)
def test_the_end_of_an_upload_is_the_later_of_the_listed_time_and_the_response(
    created_at: str, responded_at: str | None, expected: str | None
) -> None:
    response, end = (
        time and datetime.fromisoformat(f"2026-11-25T{time}+00:00") for time in (responded_at, expected)
    )
    assert uploads.end_of_upload(listed(created_at), response) == end


def test_a_checksum_is_hexadecimal_or_base64() -> None:
    encoded = b64encode(bytes.fromhex(MD5)).decode()
    found = [listed(md5=text).is_copy_of(3, MD5) for text in (MD5, MD5.upper(), encoded, "d41d8cd9-5", None)]
    assert found == [True, True, True, False, False]


def test_documented_names_are_accepted() -> None:
    for name in ("a.csv", "_.txt", "0-1.2.CSV.Gz", "x.gpg", "x.PGP", "x.bz2"):
        assert endpoints.upload("web_orders-1", name).path == f"/uploads/web_orders-1/{name}"


@pytest.mark.parametrize("directory", ["../etc", "web orders", "None", "-x", "x\n", ""])
def test_directories_that_faraday_would_reject_are_an_error(directory: str) -> None:
    with pytest.raises(FaradayInputError, match="directory must be"):
        endpoints.upload(directory, "a.csv")


@pytest.mark.parametrize("filename", ["orders.xlsx", "../orders.csv", "orders.csv\n", ".csv", "a/b.csv"])
def test_filenames_that_faraday_would_reject_are_an_error(filename: str) -> None:
    with pytest.raises(FaradayInputError, match="filename must be"):
        endpoints.upload("web_orders", filename)
