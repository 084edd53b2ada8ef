"""What holds for every test: no network beyond this machine, no windows, few threads."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

# Before anything imports matplotlib.
os.environ.setdefault("MPLBACKEND", "Agg")
# Before anything imports torch: on shared cores, threads that wait by spinning slow small networks down twentyfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch


def pytest_configure() -> None:
    # Enough for small networks, and two suites side by side do not starve each other; a lower OMP_NUM_THREADS is kept. Where the tests
    # are shared by several processes, each has one.
    most = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
    torch.set_num_threads(min(most, torch.get_num_threads()))


def stays_here(family: int, address: Any) -> bool:
    """Whether a socket address is on this machine: a Unix socket, ``localhost`` or a loopback IP."""
    if family == getattr(socket, "AF_UNIX", None):
        return True
    host = str(address[0])
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """A test that would need the network fails at once, and says so, instead of passing only where there is one."""

    def refusing(original: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if not stays_here(self.family, address):
                raise PermissionError(f"tests run offline, refused a connection to {address!r}")
            return original(self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refusing(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", refusing(socket.socket.connect_ex))
        yield
