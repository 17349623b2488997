"""Measure an upload and a download of a large file, in turn with curl: speed and peak memory."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forked import forked

TARGET = "70000000-0000-4000-8000-000000000001"
BLOCK = 1024 * 1024


def _serve(listener: socket.socket, source: Path, md5: str, context: ssl.SSLContext | None) -> None:
    """Serve the file as a target's output, and accept any upload without looking at it."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_respond, args=(connection, source, md5, context), daemon=True).start()


def _respond(connection: socket.socket, source: Path, md5: str, context: ssl.SSLContext | None) -> None:
    if context:
        connection = context.wrap_socket(connection, server_side=True)
    buffer = memoryview(bytearray(BLOCK))
    size = source.stat().st_size
    uploaded: list[dict[str, Any]] = []
    with connection, connection.makefile("rb") as requests:
        while line := requests.readline():
            method, path, _ = line.decode().split(" ")
            length = 0
            while (header := requests.readline()) != b"\r\n":
                name, _, value = header.decode().lower().partition(":")
                length = int(value) if name == "content-length" else length
            while length:
                length -= requests.readinto1(buffer[: min(length, BLOCK)])  # type: ignore[attr-defined]
            if method == "POST":
                path = path.removeprefix("/v1/uploads/")
                created_at = f"2026-01-01T06:00:{len(uploaded):02d}.000Z"
                entry = {"subpath": path, "file_size": size, "md5_hash": md5, "created_at": created_at}
                uploaded.append(entry)
            if path.endswith("download.csv"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                with source.open("rb") as file:
                    if not context:
                        connection.sendfile(file)
                    # With TLS, sendfile() would send half of a TLS record at a time.
                    while count := file.readinto(buffer):
                        connection.sendall(buffer[:count])
                continue
            target = {"id": TARGET, "name": "any", "status": "ready", "last_updated_output_at": "2026-01-01"}
            body = json.dumps(uploaded if path.endswith("uploads") else target).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def _ours(direction: str, base_url: str, source: Path, destination: Path) -> tuple[float, float]:
    """Return the seconds, and by how many MB the peak memory of the process has grown."""
    from airflow_provider_faraday.hooks.faraday import FaradayHook

    connection = {"conn_type": "faraday", "password": "any", "host": base_url}
    os.environ["AIRFLOW_CONN_FARADAY_DEFAULT"] = json.dumps(connection)
    hook = FaradayHook()
    # Opens the connection, and imports everything.
    import airflow_provider_faraday.hooks.files  # noqa: F401

    hook.list_uploads()
    destination.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    at = time.perf_counter()
    if direction == "upload":
        hook.upload_file(str(source), "bench", "bench.csv")
    else:
        hook.download_target(TARGET, str(destination))
    seconds = time.perf_counter() - at
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _curl(
    direction: str, base_url: str, source: Path, destination: Path, *, hashed: bool
) -> tuple[float, float]:
    """Return the seconds, and the peak memory of curl in MB."""
    trusted = os.environ["SSL_CERT_FILE"]
    command = ["curl", "--silent", "--fail", "--cacert", trusted, "--noproxy", "*"]
    if direction == "upload":
        # Without this, curl waits for permission to send a body.
        command += ["--header", "Expect:"]
        command += ["--upload-file", str(source), "--request", "POST", f"{base_url}/uploads/bench/curl.csv"]
    else:
        command += ["--output", str(destination), f"{base_url}/targets/{TARGET}/download.csv"]
    destination.unlink(missing_ok=True)
    at = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if hashed:
        file = source if direction == "upload" else destination
        subprocess.run(["md5sum", str(file)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - at
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _md5(direction: str, base_url: str, source: Path, destination: Path) -> tuple[float, float]:
    """Return the seconds that hashing the file takes, which no verified transfer can beat."""
    at = time.perf_counter()
    with source.open("rb") as file:
        hashlib.file_digest(file, "md5")
    return time.perf_counter() - at, 0.0


SUBJECTS: dict[str, Callable[..., tuple[float, float]]] = {
    "faraday": _ours,
    "curl": lambda *arguments: _curl(*arguments, hashed=False),
    "curl, then md5sum": lambda *arguments: _curl(*arguments, hashed=True),
    "MD5 alone": _md5,
}


def main() -> None:
    """Print one JSON object per subject, direction and protocol, with medians."""
    if not shutil.which("curl"):
        sys.exit("curl is not installed.")
    quick = "--quick" in sys.argv[1:]
    size, rounds = (50_000_000, 1) if quick else (1_000_000_000, 3)
    with tempfile.TemporaryDirectory(prefix="faraday-bench-") as directory:
        source, destination = Path(directory, "source.csv"), Path(directory, "destination.csv")
        md5 = hashlib.md5(usedforsecurity=False)
        with source.open("wb") as file:
            for _ in range(size // 1_000_000):
                md5.update(block := os.urandom(1_000_000))
                file.write(block)
        for tls in (False, True):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
            if context:
                context.load_cert_chain(os.environ["SSL_CERT_FILE"])
            with socket.create_server(("127.0.0.1", 0)) as listener:
                server = multiprocessing.get_context("fork").Process(
                    target=_serve, args=(listener, source, md5.hexdigest(), context), daemon=True
                )
                server.start()
                base_url = f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}/v1"
                for direction in ("download", "upload"):
                    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in SUBJECTS}
                    for _ in range(rounds):
                        for name, transfer in SUBJECTS.items():
                            # The second one counts: a virtual machine may take eight times as long to write
                            # to memory that another process has used.
                            for _ in range(2):
                                result = forked(transfer, direction, base_url, source, destination)
                            taken[name].append(tuple(result))
                    for name, results in taken.items():
                        result = {
                            "kind": "transfer",
                            "subject": name,
                            "direction": direction,
                            "tls": tls,
                            "megabytes": size / 1e6,
                            "rounds": rounds,
                            "mb_per_s": size / 1e6 / statistics.median(seconds for seconds, _ in results),
                            "slowest_mb_per_s": size / 1e6 / max(seconds for seconds, _ in results),
                            "fastest_mb_per_s": size / 1e6 / min(seconds for seconds, _ in results),
                            "peak_mb": max(memory for _, memory in results),
                        }
                        print(json.dumps(result), flush=True)
                server.terminate()
                server.join()


if __name__ == "__main__":
    main()
