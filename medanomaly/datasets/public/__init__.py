"""Published data sets by their published layouts: each is a function that returns manifest rows.

A reader is called as ``reader(root, folder, **options)``: ``root`` is the data set as downloaded, ``folder`` the place of the
manifest, where sets that keep many images in one file have them written one by one. Its options are keyword arguments with
defaults, and become the options of ``medanomaly data NAME``.
"""

from __future__ import annotations

from collections.abc import Callable

from medanomaly.datasets.public.listing import Listing

PUBLIC_SETS: dict[str, Callable[..., Listing]] = {}
