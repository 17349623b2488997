"""Connection: every form of an Airflow connection that works, and a sentence for those that do not."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models import Connection

from airflow_provider_faraday.api.config import ClientConfig
from airflow_provider_faraday.api.errors import FaradayConfigurationError
from airflow_provider_faraday.hooks.connection import client_config

KEY = "k3y-of-the-account"


def config(extra: Any = None, **fields: Any) -> ClientConfig:
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    fields = {"conn_id": "faraday_default", "conn_type": "faraday", "password": KEY} | fields
    return client_config(Connection(**fields, extra=text))


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, "https://api.faraday.ai/v1"),
        ({"host": ""}, "https://api.faraday.ai/v1"),
        ({"host": "https://api.faraday.ai/v1"}, "https://api.faraday.ai/v1"),
        ({"host": "https://api.faraday.ai/v1/"}, "https://api.faraday.ai/v1"),
        ({"host": "https://api.faraday.ai"}, "https://api.faraday.ai/v1"),
        ({"host": "https://api.faraday.ai/"}, "https://api.faraday.ai/v1"),
        ({"host": " api.faraday.ai "}, "https://api.faraday.ai/v1"),
        ({"host": "gateway.example/faraday/v2"}, "https://gateway.example/faraday/v2"),
        ({"host": "api.faraday.ai", "schema": "https", "port": 8443}, "https://api.faraday.ai:8443/v1"),
        ({"host": "https://api.faraday.ai", "port": 8443}, "https://api.faraday.ai:8443/v1"),
        ({"host": "https://api.faraday.ai:8443", "port": 8443}, "https://api.faraday.ai:8443/v1"),
        ({"host": "api.faraday.ai", "port": 0}, "https://api.faraday.ai/v1"),
        ({"host": "127.0.0.1", "schema": "http", "port": 8123}, "http://127.0.0.1:8123/v1"),
        ({"host": "http://localhost:8123/v1"}, "http://localhost:8123/v1"),
        ({"host": "http://[::1]:8123"}, "http://[::1]:8123/v1"),
        ({"host": "http://[::1]", "port": 8123}, "http://[::1]:8123/v1"),
        ({"host": "gateway.example:", "port": 8123}, "https://gateway.example:8123/v1"),
        ({"host": "localhost:8123", "schema": "HTTP"}, "http://localhost:8123/v1"),
    ],
)
def test_every_form_of_a_host_works(fields: dict[str, Any], base_url: str) -> None:
    assert config(**fields).base_url == base_url


@pytest.mark.parametrize(
    ("uri", "base_url"),
    [
        ("faraday://:{key}@/", "https://api.faraday.ai/v1"),
        ("faraday://:{key}@127.0.0.1:8123/http", "http://127.0.0.1:8123/v1"),
        ("faraday://:{key}@https%3A%2F%2Fgateway.example%2Fv1", "https://gateway.example/v1"),
    ],
)
def test_connections_in_uri_form_work(uri: str, base_url: str) -> None:
    connection = Connection(conn_id="c", uri=uri.format(key=KEY))
    assert client_config(connection).base_url == base_url
    assert client_config(connection).api_key == KEY


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "http://api.faraday.ai"},
        {"host": "api.faraday.ai", "schema": "http"},
        {"host": "http://127.0.0.1.example.com"},
        {"host": "http://localhost.example.com"},
    ],
)
def test_plain_http_is_refused_beyond_this_machine_unless_allowed(fields: dict[str, Any]) -> None:
    with pytest.raises(FaradayConfigurationError, match=r"plain http.*allow_http"):
        config(**fields)
    assert config({"allow_http": True}, **fields).base_url.startswith("http://")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"host": "ftp://api.faraday.ai"}, "must be https"),
        ({"host": "https://"}, "no host name or URL"),
        ({"host": "https://a b/"}, "no host name or URL"),
        ({"host": "https://h:99999"}, "no host name or URL"),
        ({"host": "https://h:port"}, "no host name or URL"),
        ({"host": "https://[::1"}, "no host name or URL"),
        ({"host": f"https://user:{KEY}@h/"}, "user, query or fragment"),
        ({"host": "https://h/?x=1"}, "user, query or fragment"),
        ({"host": "h", "schema": "v1"}, "must be http or https"),
        ({"host": "http://localhost", "schema": "https"}, "its schema https"),
        ({"host": "https://h:1", "port": 2}, "its port field 2"),
        ({"host": "https://fäk.example"}, "no host name or URL"),
        ({"host": "h", "port": 99999}, "must be a number from 1 to 65535"),
        ({"schema": "http"}, "no host"),
        ({"port": 80}, "no host"),
        ({"password": None}, "no API key"),
        ({"password": " \n"}, "no API key"),
        ({"password": "two words"}, "white space, control characters"),
        ({"password": "new\nline"}, "white space, control characters"),
        ({"password": "bell\x07"}, "white space, control characters"),
        ({"password": "clé"}, "white space, control characters"),
        (
            {"extra": {"timeout": "soon"}},
            "'timeout' must be a number of seconds above 0, a day at most (it is 'soon')",
        ),
        ({"extra": {"timeout": 1e10}}, "'timeout' must be"),
        ({"extra": {"timeout": 0}}, "'timeout' must be"),
        ({"extra": {"timeout": True}}, "'timeout' must be"),
        ({"extra": '{"timeout": NaN}'}, "'timeout' must be"),
        ({"extra": {"max_attempts": 0}}, "'max_attempts' must be"),
        ({"extra": {"max_attempts": 1.5}}, "'max_attempts' must be"),
        ({"extra": {"max_attempts": [1]}}, "'max_attempts' must be"),
        ({"extra": {"proxy": f"ftp://u:{KEY}@p"}}, "'proxy' must be the URL of an HTTP proxy"),
        ({"extra": {"verify": "/no/such/file.pem"}}, "'verify' must be"),
        ({"extra": {"allow_http": "maybe"}}, "'allow_http' must be true or false"),
    ],
)
def test_what_cannot_be_used_gets_a_sentence_without_the_key(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(FaradayConfigurationError) as caught:
        config(**fields)
    assert str(caught.value).startswith("Airflow connection 'faraday_default' cannot be used: ")
    assert says in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("extra", ["[", "[1]", "5", '"text"'])
def test_an_extra_that_is_no_object_gets_a_sentence(extra: str) -> None:
    # Airflow's own model refuses these; a secrets backend can still hand them over.
    connection = SimpleNamespace(conn_id="c", password=KEY, host=None, schema=None, port=None, extra=extra)
    with pytest.raises(FaradayConfigurationError, match="its extra is no JSON object"):
        client_config(connection)


def test_white_space_around_the_key_is_no_part_of_it() -> None:
    assert config(password=f" {KEY}\n").api_key == KEY


def test_extras_are_read_in_the_types_that_forms_and_urls_give(tmp_path: Any) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    read = config(
        {
            "timeout": "2.5",
            "max_attempts": "3",
            "proxy": "http://proxy:3128",
            "verify": str(bundle),
            "allow_http": "false",
        }
    )
    assert (read.connect_seconds, read.read_seconds, read.max_attempts) == (2.5, 2.5, 3)
    assert (read.proxy, read.verify) == ("http://proxy:3128", str(bundle))
    assert config({"verify": "False"}).verify is False


def test_null_and_empty_extras_are_unset() -> None:
    names = ["timeout", "max_attempts", "proxy", "verify", "allow_http"]
    for unset in (None, ""):
        read = config(dict.fromkeys(names, unset))
        assert (read.connect_seconds, read.read_seconds, read.max_attempts) == (10, 60, 5)
        assert (read.proxy, read.verify) == (None, None)


def test_an_unknown_extra_is_named_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config({"time_out": 5, "headers": {"X-Secret": "s3cret"}})
    assert "headers, time_out" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_key_is_in_no_repr() -> None:
    read = config({"proxy": "http://user:hidden@proxy:3128"})
    assert KEY not in repr(read)
    assert "hidden" not in repr(read)
