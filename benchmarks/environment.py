"""The environment of the measured processes, and its description for the results."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from subjects import SUBJECTS


def certificate(directory: Path) -> Path:
    """Create a certificate for 127.0.0.1, and return a PEM file with the certificate and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return pem


def environment(home: Path, ports: list[int] | None = None, trusted: Path | None = None) -> dict[str, str]:
    """Return the environment variables of a measured process, without the user's Airflow and Python settings.

    :param home: its ``AIRFLOW_HOME``.
    :param ports: the ports of the local server.
    :param trusted: the certificate to trust.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "PYTHON")) and not name.lower().endswith("_proxy")
    }
    env |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    if ports:
        env["BENCH_PORTS"] = str(ports)
    if trusted:
        env |= {"SSL_CERT_FILE": str(trusted), "REQUESTS_CA_BUNDLE": str(trusted)}
    return env


def machine() -> dict[str, Any]:
    """Return the date, the machine and the versions, without any names or paths."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
        "versions": {subject.distribution: version(subject.distribution) for subject in SUBJECTS.values()},
        "libraries": {name: version(name) for name in ("aiohttp", "msgspec", "httpx", "requests")},
    }
