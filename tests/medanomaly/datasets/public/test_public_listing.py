from __future__ import annotations

import json
from pathlib import Path

import pytest

from medanomaly.datasets.public import listing
from medanomaly.datasets.public.listing import continue_or_empty
from medanomaly.errors import InputError


def test_files_of_the_same_settings_stay_and_those_of_others_go(tmp_path: Path) -> None:
    continue_or_empty(tmp_path, {"side": 64, "modes": ("a", "b")})
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "1.png").write_bytes(b"old")
    continue_or_empty(tmp_path, {"modes": ["a", "b"], "side": 64})
    assert (tmp_path / "deep" / "1.png").exists()
    continue_or_empty(tmp_path, {"side": 32})
    assert not (tmp_path / "deep" / "1.png").exists()
    assert json.loads((tmp_path / "settings.json").read_text()) == {"side": 32}


def test_files_of_somebody_else_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"mine")
    with pytest.raises(InputError) as refused:
        continue_or_empty(tmp_path, {"side": 64})
    assert refused.value.code == "E_EXISTS"
    assert (tmp_path / "holiday.png").read_bytes() == b"mine"


def test_an_interruption_while_emptying_does_not_pass_old_files_for_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    continue_or_empty(tmp_path, {"side": 64})
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"old")
    removed: list[Path] = []
    original = Path.unlink

    def failing(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".png" and removed:
            raise KeyboardInterrupt
        if self.suffix == ".png":
            removed.append(self)
        original(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(listing.Path, "unlink", failing)
        with pytest.raises(KeyboardInterrupt):
            continue_or_empty(tmp_path, {"side": 32})
    # Neither the old nor the new settings may find a file that they could keep.
    for settings in ({"side": 64}, {"side": 32}):
        continue_or_empty(tmp_path, settings)
        assert not list(tmp_path.glob("*.png"))
