"""medanomaly live: a page that shows running localizations and trainings; and what the other commands need to send to it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from medanomaly.cli.parsing import run_function
from medanomaly.views.live import LiveView, open_view
from medanomaly.views.live_sender import DEFAULT_URL


def live(port: int = 8097) -> int:
    """Serve the live view on this machine alone, until stopped; `train` and `localize` send to it with --visdom.

    Args:
        port: of 127.0.0.1; 0 = any that is free
    """
    # Here, because visdom and tornado are for this command alone.
    from medanomaly.views.live_server import serve

    serve(port, ready=announce)
    return 0


def announce(url: str) -> None:
    """How to see the page and how to send to it."""
    address = "" if url == DEFAULT_URL else f" {url}"
    print(f"live view at {url} (this machine only)\nsend to it: medanomaly localize ... --visdom{address}", flush=True)


@contextlib.contextmanager
def live_view(url: str | None) -> Iterator[LiveView | None]:
    """The view on the server of ``--visdom``, closed at the end; None without that option.

    Raises:
        ConfigError: E_CONFIG, the address is none.
    """
    view = None if url is None else open_view(url, warn=lambda text: tqdm.write(f"warning: {text}", file=sys.stderr))
    with contextlib.nullcontext() if view is None else view:
        yield view


def with_address(words: Sequence[str]) -> list[str]:
    """The command line with the address of ``medanomaly live`` after each ``--visdom`` that has none."""
    following = [*words[1:], "--"][: len(words)]
    bare = [word == "--visdom" and after.startswith("--") for word, after in zip(words, following, strict=True)]
    return [f"--visdom={DEFAULT_URL}" if without else word for word, without in zip(words, bare, strict=True)]


def main(arguments: Sequence[str]) -> int:
    """``medanomaly live [--port 8097]``."""
    return run_function(live, "medanomaly live", "[--port 8097]", arguments)
