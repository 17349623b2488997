"""Measure an upload and a download of a large file over HTTPS, in turn with curl followed by md5sum."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import trustme
from forked import forked

TARGET = "70000000-0000-4000-8000-000000000001"
BLOCK = 1024 * 1024


def serve(listener: socket.socket, source: Path, md5: str, context: ssl.SSLContext) -> None:
    """Serve the file as a target's output, and accept any upload without looking at it."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_respond, args=(connection, source, md5, context), daemon=True).start()


def _respond(connection: socket.socket, source: Path, md5: str, context: ssl.SSLContext) -> None:
    buffer = memoryview(bytearray(BLOCK))
    size = source.stat().st_size
    uploaded: list[dict[str, Any]] = []
    with context.wrap_socket(connection, server_side=True) as secured, secured.makefile("rb") as requests:
        while line := requests.readline():
            method, path, _ = line.decode().split(" ")
            length = 0
            while (header := requests.readline()) != b"\r\n":
                name, _, value = header.decode().lower().partition(":")
                length = int(value) if name == "content-length" else length
            while length:
                length -= requests.readinto1(buffer[: min(length, BLOCK)])  # type: ignore[attr-defined]
            if path.endswith("download.csv"):
                secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                with source.open("rb") as file:
                    while count := file.readinto(buffer):
                        secured.sendall(buffer[:count])
                continue
            if method == "POST":
                subpath = path.removeprefix("/v1/uploads/")
                created_at = f"2026-01-01T06:00:{len(uploaded):02d}.000Z"
                entry = {"subpath": subpath, "file_size": size, "md5_hash": md5, "created_at": created_at}
                uploaded.append(entry)
            target = {"id": TARGET, "name": "any", "status": "ready", "last_updated_output_at": "2026-01-01"}
            body = json.dumps(uploaded if path.endswith("uploads") else target).encode()
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def ours(direction: str, base_url: str, source: Path, destination: Path) -> dict[str, float]:
    """Transfer the file. Return the seconds, and by how many MB the peak memory of the process has grown."""
    from airflow_provider_faraday.hooks.faraday import FaradayHook

    connection = {"conn_type": "faraday", "password": "any", "host": base_url}
    os.environ["AIRFLOW_CONN_FARADAY_DEFAULT"] = json.dumps(connection)
    hook = FaradayHook()
    # Opens the TCP connection, and imports everything.
    import airflow_provider_faraday.hooks.files  # noqa: F401

    hook.list_uploads()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    if direction == "upload":
        hook.upload_file(str(source), "bench", "bench.csv")
    else:
        hook.download_target(TARGET, str(destination))
    seconds = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": seconds, "peak_mb": grown / 1024}


def curl(direction: str, base_url: str, source: Path, destination: Path) -> dict[str, float]:
    """Transfer the file with curl, then compute its MD5."""
    command = ["curl", "--silent", "--fail", "--cacert", os.environ["REQUESTS_CA_BUNDLE"], "--noproxy", "*"]
    if direction == "upload":
        # Without this header, curl waits for permission to send a body.
        command += ["--header", "Expect:", "--request", "POST", "--upload-file", str(source)]
        command += [f"{base_url}/uploads/bench/curl.csv"]
    else:
        command += ["--output", str(destination), f"{base_url}/targets/{TARGET}/download.csv"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    file = source if direction == "upload" else destination
    subprocess.run(["md5sum", str(file)], check=True, stdout=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - began}


def measure(base_url: str, source: Path, destination: Path, rounds: int) -> None:
    """Print one JSON object per transfer."""
    megabytes = source.stat().st_size / 1e6
    for _ in range(rounds):
        for direction in ("download", "upload"):
            for name, transfer in ((direction, ours), (f"{direction} with curl", curl)):
                # The second one counts: a virtual machine may take eight times as long to write to memory
                # that another process has used.
                for _ in range(2):
                    destination.unlink(missing_ok=True)
                    result = forked(transfer, direction, base_url, source, destination)
                result["mb_per_s"] = megabytes / result.pop("seconds")
                print(json.dumps({"case": name, **result}), flush=True)


def main(quick: bool) -> None:
    """Create the file and the server, and measure."""
    if not shutil.which("curl"):
        sys.exit("curl is not installed.")
    megabytes, rounds = (50, 1) if quick else (1000, 3)
    with tempfile.TemporaryDirectory(prefix="faraday-bench-") as directory:
        home = Path(directory)
        source = home / "source.csv"
        with source.open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(1_000_000))
        with source.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(home / "ca.pem"))
        os.environ["REQUESTS_CA_BUNDLE"] = str(home / "ca.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        listener = socket.create_server(("127.0.0.1", 0))
        multiprocessing.get_context("fork").Process(
            target=serve, args=(listener, source, md5, context), daemon=True
        ).start()
        base_url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        measure(base_url, source, home / "destination.csv", rounds)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
