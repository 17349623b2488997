"""The configuration from an Airflow connection: which forms are accepted, and what the errors say."""

from __future__ import annotations

import base64
import json
import logging
import os
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from airflow.models import Connection

from airflow_provider_faraday.api.errors import FaradayConfigurationError
from airflow_provider_faraday.client.config import ClientConfig, client_config
from support.clients import KEY


def config(extra: Any = None, **fields: Any) -> ClientConfig:
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    fields = {"conn_id": "faraday_default", "conn_type": "faraday", "password": KEY} | fields
    return client_config(Connection(**fields, extra=text))


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, "https://api.faraday.ai/v1"),
        ({"host": "https://api.faraday.ai/v1/"}, "https://api.faraday.ai/v1"),
        ({"host": "https://api.faraday.ai/"}, "https://api.faraday.ai/v1"),
        ({"host": " api.faraday.ai ", "port": 0}, "https://api.faraday.ai/v1"),
        ({"host": "gateway.example/faraday/v2"}, "https://gateway.example/faraday/v2"),
        ({"host": "https://api.faraday.ai:8443", "port": 8443}, "https://api.faraday.ai:8443/v1"),
        ({"host": "localhost", "schema": "http", "port": 8123}, "http://localhost:8123/v1"),
        ({"host": "http://[::1]", "port": 8123}, "http://[::1]:8123/v1"),
        ({"host": "gateway.example:", "port": 8123}, "https://gateway.example:8123/v1"),
    ],
)
def test_accepts_a_host(fields: dict[str, Any], base_url: str) -> None:
    assert config(**fields).base_url == base_url


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "http://api.faraday.ai"},
        {"host": "api.faraday.ai", "schema": "http"},
        {"host": "http://127.0.0.1.example.com"},
    ],
)
def test_rejects_plain_http_to_other_machines_unless_allowed(fields: dict[str, Any]) -> None:
    with pytest.raises(FaradayConfigurationError, match=r"(?s)plain http.*allow_http"):
        config(**fields)
    assert config({"allow_http": True}, **fields).base_url.startswith("http://")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"host": "ftp://api.faraday.ai"}, "is not an http or https URL"),
        ({"host": "https://"}, "is not an http or https URL"),
        ({"host": "https://h:port"}, "is not an http or https URL"),
        ({"host": f"https://user:{KEY}@h/"}, "without a user, query or fragment"),
        ({"host": "https://h/?x=1"}, "without a user, query or fragment"),
        ({"host": "h", "schema": "v1"}, "is not an http or https URL"),
        ({"host": "h", "port": 99999}, "is not an http or https URL"),
        ({"port": 8443}, "is not an http or https URL"),
        ({"password": " \n"}, "no API key"),
        ({"password": "new\nline"}, "spaces, control characters"),
        ({"password": "clé"}, "spaces, control characters"),
        ({"extra": {"timeout": "soon"}}, "'timeout' is not valid.\nUse a number of seconds"),
        ({"extra": {"timeout": 0}}, "'timeout' is not valid"),
        ({"extra": {"max_attempts": 0}}, "'max_attempts' is not valid"),
        ({"extra": {"timeout": 1e30}}, "'timeout' is not valid"),
        ({"extra": {"proxy": f"http://u:{KEY}@[zz]:3"}}, "'proxy' is not valid"),
        ({"extra": {"proxy": f"ftp://u:{KEY}@p"}}, "'proxy' is not valid.\nUse the URL of an HTTP proxy"),
        ({"extra": {"proxy": f"http://u:{KEY}#@p"}}, "'proxy' is not valid"),
        ({"extra": {"proxy": f"http://u:{KEY}/@p"}}, "'proxy' is not valid"),
        ({"extra": {"proxy": f"http://u:\\{KEY}@p"}}, "'proxy' is not valid"),
        ({"extra": {"verify": "/no/such/file.pem"}}, "'verify' is not valid.\nUse true, false or the path"),
        ({"extra": {"verify": 5}}, "'verify' is not valid"),
        ({"extra": {"webhook_secret": f"whsec_{KEY}"}}, "'webhook_secret' is not valid.\nUse the secret"),
        ({"extra": {"webhook_secret": "whsec_"}}, "'webhook_secret' is not valid"),
        ({"extra": {"webhook_secret": [[KEY]]}}, "'webhook_secret' is not valid"),
        ({"extra": {"allow_http": "maybe"}}, "'allow_http' is not valid.\nUse true or false"),
    ],
)
def test_names_the_field_that_is_not_valid_but_not_the_key(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(FaradayConfigurationError) as caught:
        config(**fields)
    assert str(caught.value).startswith("The Airflow connection 'faraday_default' is not valid: ")
    assert says in str(caught.value)
    error: BaseException | None = caught.value
    while error:
        assert KEY not in str(error)
        error = error.__context__


@pytest.mark.parametrize("password", [f"{KEY}#", f"{KEY}/", f"{KEY}?", f"12/{KEY}", f"[{KEY}"])
def test_a_proxy_of_the_environment_with_an_unquoted_password_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:{password}@proxy.example:3128")
    with pytest.raises(FaradayConfigurationError, match="proxy in the environment is not valid") as caught:
        config().proxy_url  # noqa: B018
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("extra", ["[", "[1]"])
def test_rejects_an_extra_that_is_not_an_object(extra: str) -> None:
    # Airflow's own model refuses these, but a secrets backend can return them.
    connection = SimpleNamespace(conn_id="c", password=KEY, host=None, schema=None, port=None, extra=extra)
    with pytest.raises(FaradayConfigurationError, match="its extra is not a JSON object"):
        client_config(connection)


def test_strips_whitespace_around_the_key() -> None:
    assert config(password=f" {KEY}\n").api_key == KEY


def test_reads_extras_as_the_strings_of_forms_and_uris(tmp_path: Path) -> None:
    read = config({"timeout": "2.5", "max_attempts": "3", "verify": str(tmp_path), "allow_http": "false"})
    assert (read.connect_seconds, read.read_seconds, read.max_attempts) == (2.5, 2.5, 3)
    assert (read.verify, read.allow_http) == (str(tmp_path), False)
    assert config({"verify": "False"}).verify is False


@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN CERTIFICATE-----\ns3cret" * 100,
        "s3cret/" * 10_000,
        "s3cret" * 100,
        "/s3cret\0",
        "unreadable",
    ],
)
def test_names_verify_if_it_cannot_be_read_but_quotes_nothing(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value == "unreadable":
        bundle = tmp_path / "s3cret.pem"
        bundle.touch()
        value = str(bundle)
        # The tests may run as root, which may read everything.
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FaradayConfigurationError, match="'verify' is not valid") as caught:
        config({"verify": value})
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_differs_when_the_ca_bundle_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.pem"
    for set_it in ({"verify": str(bundle)}, {}):
        bundle.write_text("old")
        if not set_it:
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        before = config(set_it)
        assert before == config(set_it)
        bundle.write_text("newer")
        assert before != config(set_it)


@pytest.mark.parametrize("unset", [None, ""])
def test_ignores_null_and_empty_extras(unset: str | None) -> None:
    names = ["timeout", "max_attempts", "proxy", "verify", "allow_http"]
    assert config(dict.fromkeys(names, unset)) == config()


def test_warns_of_unknown_extras_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config({"time_out": 5, "headers": {"X-Secret": "s3cret"}})
    assert "headers, time_out" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_repr_shows_no_secrets() -> None:
    read = config({"proxy": "http://user:hidden@proxy:3128"})
    assert KEY not in repr(read)
    assert "hidden" not in repr(read)


@pytest.mark.parametrize(
    "form",
    [
        lambda secret: secret,
        lambda secret: quote(secret),
        lambda secret: quote(secret, safe="").lower(),
        lambda secret: json.dumps(secret),
        lambda secret: base64.b64encode(secret.encode()).decode(),
    ],
)
def test_redacts_the_key_and_the_proxy_password(form: Any) -> None:
    key, password = 'a"b\\c/d+e=f&g-0123456789', "p w/d%"
    read = ClientConfig(conn_id="c", api_key=key, proxy=f"http://user:{quote(password, safe='')}@proxy:3128")
    for secret in (key, password):
        redacted = read.redact(f"before {form(secret)} after")
        assert secret[:4] not in redacted
        assert "***" in redacted
        assert redacted.startswith("before ")
        assert redacted.endswith(" after")


def test_redacts_the_proxy_password_as_it_was_given_and_sent() -> None:
    read = ClientConfig(conn_id="c", api_key=KEY, proxy="http://user:p%40ss!w0rd@proxy:99999")
    assert "w0rd" not in read.redact("Failed to parse: http://user:p%40ss!w0rd@proxy:99999")
    sent = base64.b64encode(b"user:p@ss!w0rd").decode()
    assert sent not in read.redact(f"Proxy-Authorization: Basic {sent}")


def test_redacts_to_a_single_line() -> None:
    assert config().redact("a\nb\x1b[31m") == "a b [31m"


KEYS = [bytes(range(24)), bytes(range(1, 25))]
SECRETS = [f"whsec_{base64.b64encode(key).decode()}" for key in KEYS]


@pytest.mark.parametrize(
    ("secret", "keys"),
    [
        (SECRETS, KEYS),
        # What the form can hold.
        (f" {SECRETS[0]}  {SECRETS[1]}\n", KEYS),
        (SECRETS[0].removeprefix("whsec_"), KEYS[:1]),
        (f"whsec_{base64.b64encode(bytes(32)).decode().rstrip('=')}", [bytes(32)]),
        ("", []),
    ],
)
def test_reads_one_or_several_webhook_secrets(secret: Any, keys: list[bytes]) -> None:
    read = config({"webhook_secret": secret})

    assert list(read.webhook_secret) == keys
    assert not any(repr(key) in repr(read) for key in keys)
