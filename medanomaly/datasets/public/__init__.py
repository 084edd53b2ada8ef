"""Published data sets by their published layouts: each is a function that returns manifest rows.

A reader is called as ``reader(root, folder, **options)``: ``root`` is the data set as downloaded, ``folder`` the place of the
manifest, where sets that keep many images in one file have them written one by one. Its options are keyword arguments with
defaults, and become the options of ``medanomaly data NAME``.
"""

from __future__ import annotations

from collections.abc import Callable

from medanomaly.datasets.public.aptos import aptos
from medanomaly.datasets.public.brats import brats
from medanomaly.datasets.public.chexpert import chexpert
from medanomaly.datasets.public.digits import digits
from medanomaly.datasets.public.listing import Listing
from medanomaly.datasets.public.medmnist import medmnist
from medanomaly.datasets.public.mnist import mnist
from medanomaly.datasets.public.nih import nih
from medanomaly.datasets.public.pcam import pcam
from medanomaly.datasets.public.vindr import vindr

PUBLIC_SETS: dict[str, Callable[..., Listing]] = {
    "brats": brats,
    "chexpert": chexpert,
    "aptos": aptos,
    "digits": digits,
    "medmnist": medmnist,
    "mnist": mnist,
    "nih": nih,
    "pcam": pcam,
    "vindr": vindr,
}
