"""A headless Chromium, asked over its DevTools protocol (chromedevtools.github.io) until a page shows what is awaited."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import websocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""None = there is no browser on this machine."""
PATIENCE_S = 120.0


def page_with(url: str, awaited: str, screenshot: Path, *, size: tuple[int, int] = (1400, 900)) -> str:
    """HTML of a page as the browser has built it, once its text holds what is awaited; writes a PNG of it.

    Raises:
        TimeoutError: the text did not come.
    """
    assert CHROMIUM is not None
    options = [
        "--headless=new",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--remote-debugging-port=0",
    ]
    # A sandbox needs another user than root.
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    options += [f"--window-size={size[0]},{size[1]}"]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen([CHROMIUM, *options, f"--user-data-dir={profile}", url], stdout=DEVNULL, stderr=DEVNULL) as browser,
    ):
        try:
            socket = websocket.create_connection(debugger_of(Path(profile)), timeout=PATIENCE_S, suppress_origin=True)
            try:
                return look(socket, awaited, screenshot)
            finally:
                socket.close()
        finally:
            browser.terminate()
            browser.wait(PATIENCE_S)


def debugger_of(profile: Path) -> str:
    """Address of the DevTools socket of the first page."""
    end, port = time.monotonic() + PATIENCE_S, profile / "DevToolsActivePort"
    while time.monotonic() < end:
        if port.is_file() and (lines := port.read_text().splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=PATIENCE_S) as reply:
                pages = [target for target in json.loads(reply.read()) if target["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise TimeoutError("the browser did not start")


def look(socket: Any, awaited: str, screenshot: Path) -> str:
    """Ask for the page until it shows what is awaited, and photograph it."""
    end, html = time.monotonic() + PATIENCE_S, ""
    while time.monotonic() < end:
        expression = {"expression": "document.documentElement.outerHTML", "returnByValue": True}
        html = str(ask(socket, "Runtime.evaluate", expression)["result"]["value"])
        if awaited in html:
            picture = ask(socket, "Page.captureScreenshot", {"format": "png"})
            screenshot.write_bytes(base64.b64decode(picture["data"]))
            return html
        time.sleep(0.2)
    raise TimeoutError(f"the page does not show {awaited!r}: {html[-2000:]}")


def ask(socket: Any, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The answer to one command; events between are passed over."""
    socket.send(json.dumps({"id": 1, "method": method, "params": parameters}))
    while True:
        answer = json.loads(socket.recv())
        if answer.get("id") == 1:
            result: dict[str, Any] = answer["result"]
            return result
