"""A Visdom server for this machine only, with a page of our own that needs no internet.

Visdom's server (fossasia/visdom, Apache-2.0) takes the panes and hands them on; its own page loads a dozen scripts that its start
fetches from the internet. The page here shows the same panes with what comes with this package. Nothing is kept: the panes live in
memory, and the folder that Visdom insists on is removed at the end.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medanomaly.errors import ConfigError, ResourceError
from medanomaly.views.live_sender import LOOPBACK

HERE = "127.0.0.1"
_PAGE = {"/": ("live.html", "text/html"), "/live.js": ("live.js", "text/javascript"), "/live.css": ("live.css", "text/css")}
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'"
"""The page loads nothing from elsewhere, whatever a pane says (W3C Content Security Policy)."""
_OPEN = {
    *(("GET", path) for path in (*_PAGE, "/socket")),
    *(("POST", path) for path in ("/events", "/update", "/close", "/win_exists", "/win_data", "/env/main")),
}
"""What can be asked of the server: the page, panes in, panes out. Visdom's saving and deleting of files is not reached."""
_LARGEST_PANE = 64 * 2**20


def listening(port: int) -> socket.socket:
    """A socket on the loopback address alone; port 0 = any that is free.

    Raises:
        ConfigError: E_CONFIG, no port has this number.
        ResourceError: E_PORT, another program has it.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"port must be in 0..65535, got {port}", code="E_CONFIG")
    try:
        made = socket.create_server((HERE, port), backlog=128)
    except OSError as error:
        raise ResourceError(
            f"port {port} cannot be used ({os.strerror(error.errno or 0)})",
            code="E_PORT",
            fix="choose another with --port, or stop its owner",
        ) from error
    made.setblocking(False)
    return made


def asked_from_here(host: str, origin: str | None) -> bool:
    """Whether a request was meant for this machine, by a page of this server or by no page.

    Another site in the same browser could otherwise read the panes through the loopback address, under its own name (DNS
    rebinding, a foreign Host) or under ours (a foreign Origin).
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name.strip("[]").lower() in LOOPBACK and (origin is None or origin.partition("://")[2] == host)


def application(folder: Path) -> Any:
    """Visdom's server with our page in front, for requests from this machine.

    Args:
        folder: where Visdom may write.
    """
    web, visdom_app = importlib.import_module("tornado.web"), importlib.import_module("visdom.server.app")
    # Its debug mode would restart the server whenever a source file changes.
    visdom_app.tornado_settings["autoreload"] = False
    templates = Path(__file__).parent / "templates"

    class LocalApplication(visdom_app.Application):  # type: ignore[misc,name-defined]
        def find_handler(self, request: Any, **options: Any) -> Any:
            headers, wanted = request.headers, (request.method, request.path)
            if wanted in _OPEN and asked_from_here(headers.get("Host", ""), headers.get("Origin")):
                return super().find_handler(request, **options)
            return self.get_handler_delegate(request, web.ErrorHandler, {"status_code": 403})

    class Page(web.RequestHandler):  # type: ignore[misc,name-defined]
        def get(self) -> None:
            name, kind = _PAGE[self.request.path]
            self.set_header("Content-Type", f"{kind}; charset=utf-8")
            self.set_header("Content-Security-Policy", _POLICY)
            self.set_header("Cache-Control", "no-store")
            self.write((templates / name).read_bytes())

    made = LocalApplication(base_url="", env_path=f"{folder}/", readonly=True)
    made.settings["debug"] = False
    made.add_handlers(".*", [(path.replace(".", r"\."), Page) for path in _PAGE])
    return made


def serve(port: int, *, ready: Callable[[str], None]) -> None:
    """Run the server until SIGINT or SIGTERM.

    Args:
        port: on 127.0.0.1; 0 = any that is free.
        ready: told the address, once it can be opened.

    Raises:
        ConfigError, ResourceError: as :func:`listening`.
    """
    with listening(port) as taken, tempfile.TemporaryDirectory(prefix="medanomaly-live-") as folder:
        asyncio.run(_serve(taken, Path(folder), ready))


async def _serve(taken: socket.socket, folder: Path, ready: Callable[[str], None]) -> None:
    httpserver = importlib.import_module("tornado.httpserver")
    server = httpserver.HTTPServer(application(folder), max_buffer_size=_LARGEST_PANE)
    server.add_sockets([taken])
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ready(f"http://{HERE}:{taken.getsockname()[1]}")
    await stop.wait()
    server.stop()
    await server.close_all_connections()
