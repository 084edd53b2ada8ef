"""Servers for the live view to meet: a real one in a process of its own, one that records, one that never answers, none at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 60.0
"""For a process to start on a busy machine; nothing waits that long unless it fails."""


class Recorder:
    """What was posted, by endpoint."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    def panes(self, name: str) -> list[dict[str, Any]]:
        """Every message for one pane, oldest first."""
        return [message for _, message in self.posts if message.get("win") == name]

    def text(self) -> str:
        """Everything that was said, as one text."""
        return json.dumps(self.posts)


@contextlib.contextmanager
def recording(status: int = 200, *, dies_after: float = math.inf) -> Iterator[Recorder]:
    """A server that keeps what it is sent and answers with one status, until it drops every connection after so many posts."""
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(recorder.posts) >= dies_after:
                self.close_connection = True
                return
            recorder.posts.append((self.path, json.loads(body, parse_constant=refuse)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recorder.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """Address of a socket that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def dead() -> str:
    """Address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def live_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(address, process) of ``medanomaly live`` on a free port."""
    command = [sys.executable, "-m", "medanomaly", "live", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", first)
            assert found, first
            yield found[0], process
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def panes_on(url: str) -> dict[str, Any]:
    """The panes that a real server holds, by name."""
    request = urllib.request.Request(f"{url}/win_data", data=json.dumps({"win": None, "eid": "main"}).encode())
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        found: dict[str, Any] = json.loads(reply.read())
    return found


def until(condition: Any) -> None:
    """Wait for something that happens in another thread or process; fails after a minute."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
