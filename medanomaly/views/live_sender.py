"""The way to a Visdom server that a run never waits for: a thread, one waiting message a pane, and one chance.

A server that is down, hangs or dies costs the run nothing but the closing wait, at most ``CLOSE_S`` once; after the first failure
nothing more is sent. Panes that come faster than they can be sent replace each other: the newest is what is worth seeing.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

from medanomaly.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:8097"
"""Where ``medanomaly live`` listens."""
CONNECT_S, READ_S = 0.5, 1.5
"""Patience with one request."""
CLOSE_S = 2.0
"""How long the end of a run waits for the last panes."""
CPU_SHARE = 0.01
"""Of the run's own CPU time, for drawing and sending: panes that cost more come less often, and so they do on a busy machine."""
_POLL_S = 0.1
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Pane(Protocol):
    """Something a Visdom server can show."""

    def message(self) -> dict[str, Any]:
        """``data``, ``opts`` and where needed ``layout`` of Visdom's ``events`` endpoint."""


def server_of(url: str) -> tuple[str, int, str]:
    """(scheme and host, port, path) of a server's address; the port is 8097 where none is written.

    Raises:
        ConfigError: E_CONFIG, not an address of a server, or one with a password in it.
    """
    fault = ConfigError(
        f"visdom must be the address of a server, got {url!a}", code="E_CONFIG", fix=f"write e.g. --visdom {DEFAULT_URL}"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise fault from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise fault
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}", port or 8097, parts.path.rstrip("/")


def visdom_client(url: str) -> Any:
    """Visdom's own client without its backchannel, its retries and its prints; every request has a time limit.

    Raises:
        ImportError: visdom is not installed.
        ConfigError: as :func:`server_of`.
    """
    server, port, path = server_of(url)
    visdom, requests = importlib.import_module("visdom"), importlib.import_module("requests")
    session = requests.Session()
    # No proxy: images go to the named server, or nowhere.
    session.trust_env = False

    class BoundedVisdom(visdom.Visdom):  # type: ignore[misc,name-defined]
        """Posts once, with a time limit, and takes no error page for success."""

        def _handle_post(self, url: str, data: Any = None) -> str:
            timeout = (CONNECT_S, READ_S)
            reply = session.post(url, data=data or {}, timeout=timeout, allow_redirects=False)
            if reply.status_code != 200:
                raise requests.HTTPError(f"status {reply.status_code}")
            return str(reply.text)

    # Made with `send` off: the constructor would post, and warn that there is no backchannel.
    options = {"server": server, "port": port, "base_url": path or "/", "env": "main"}
    client = BoundedVisdom(**options, send=False, use_incoming_socket=False, raise_exceptions=True)
    client.send = True
    return client


class Sender:
    """Sends panes from a thread of its own; ``put`` never waits.

    Args:
        client: as :func:`visdom_client` makes it.
        warn: told once why nothing more is sent.
        interval_s: least time between two rounds of panes.
        cpu_share: most of this process's CPU time that the thread may take, which lengthens the time between two rounds.
    """

    def __init__(self, client: Any, *, warn: Callable[[str], None], interval_s: float, cpu_share: float = CPU_SHARE) -> None:
        self.client, self.warn, self.interval_s, self.cpu_share = client, warn, interval_s, cpu_share
        self.given_up = False
        self.resumes_cpu_s = 0.0
        """CPU time of this process from which on there may be another round."""
        self._waiting: dict[str, Callable[[], Pane]] = {}
        self._accepted_s: dict[str, float] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)
        self._thread.start()

    def due(self, name: str) -> bool:
        """Whether a new picture of this pane is worth making now."""
        if self.given_up or time.process_time() < self.resumes_cpu_s:
            return False
        return time.monotonic() - self._accepted_s.get(name, float("-inf")) >= self.interval_s

    def put(self, name: str, make: Callable[[], Pane]) -> None:
        """Show what ``make`` gives, called in the thread, in the pane of this name; takes the place of one still waiting."""
        if self.given_up:
            return
        self._accepted_s[name] = time.monotonic()
        with self._changed:
            self._waiting[name] = make
            self._changed.notify()

    def close(self) -> None:
        """Send what waits, at most ``CLOSE_S``, and end."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self.give_up("too slow at the end of the run")

    def give_up(self, why: str) -> None:
        """Send nothing more, and say so once."""
        with self._changed:
            if self.given_up:
                return
            self.given_up = True
            self._waiting.clear()
        self.warn(f"live view: {why}; the run goes on without it")

    def _run(self) -> None:
        while not self.given_up:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                batch, self._waiting = self._waiting, {}
            if not batch:
                return
            begin_s = time.thread_time()
            try:
                for name, make in batch.items():
                    message = make().message()
                    if not self.given_up:
                        self.client._send({"win": name, "eid": "main", **message})
            except Exception as error:  # whatever it is, watching must not end the run
                self.give_up(_reason(error))
            self.resumes_cpu_s = time.process_time() + (time.thread_time() - begin_s) / self.cpu_share
            self._closing.wait(self.interval_s)
            while time.process_time() < self.resumes_cpu_s and not self._closing.wait(_POLL_S):
                pass


def _reason(error: Exception) -> str:
    """Why it failed, for a person, without the trace of libraries."""
    if isinstance(error, ConnectionError):
        cause = type(error.__cause__ or error.__context__ or error).__name__
        return f"the Visdom server does not answer ({cause}); start one with `medanomaly live`"
    return f"failed ({type(error).__name__}: {error})"
