"""Sums of every file of a data set find the bit that no format notices, and sha256sum reads them as well."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import cohort

from medanomaly.cli.main import main
from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.hashes import hash_findings, read_hashes, write_hashes
from medanomaly.datasets.manifest import Record, read_manifest, write_manifest
from medanomaly.errors import InputError
from medanomaly.io.writers import write_npy


def listed(root: Path) -> tuple[list[Record], Path]:
    """A manifest whose first image is an npy, a format without any checksum, under a name that needs escaping."""
    records = cohort(root)
    odd = root / "back\\slash\nline.npy"
    write_npy(odd, np.arange(54, dtype=np.float32).reshape(6, 9))
    records[0] = replace(records[0], image=odd, mask=None)
    write_manifest(records, root / "manifest.csv")
    return read_manifest(root / "manifest.csv"), root / "manifest.csv"


def test_a_flipped_bit_that_reads_well_is_found_by_its_sum_only(tmp_path: Path) -> None:
    records, manifest = listed(tmp_path)
    assert write_hashes(records, manifest, tmp_path / "sums") == len(read_hashes(tmp_path / "sums"))
    assert hash_findings(records, manifest, tmp_path / "sums") == []
    content = bytearray(records[0].image.read_bytes())
    content[-1] ^= 1
    records[0].image.write_bytes(content)
    assert check_manifest(records, deep=True).ok
    (finding,) = hash_findings(records, manifest, tmp_path / "sums")
    assert (finding.code, finding.ids) == ("E_HASH", ("back\\slash\nline.npy",))


def test_a_changed_table_is_found_and_a_new_file_has_no_sum(tmp_path: Path) -> None:
    records, manifest = listed(tmp_path)
    write_hashes(records[1:], manifest, tmp_path / "sums")
    manifest.write_text(manifest.read_text() + "\n")
    changed, unlisted = hash_findings(records, manifest, tmp_path / "sums")
    assert (changed.code, changed.ids) == ("E_HASH", ("manifest.csv",))
    assert (unlisted.code, unlisted.ids) == ("W_NO_HASH", ("back\\slash\nline.npy",))


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_sha256sum_checks_what_is_written_and_its_own_lines_are_read(tmp_path: Path) -> None:
    records, manifest = listed(tmp_path)
    write_hashes(records, manifest, tmp_path / "sums")
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "sums"], cwd=tmp_path, check=True)
    names = list(read_hashes(tmp_path / "sums"))
    said = subprocess.run(["sha256sum", "--", *names], cwd=tmp_path, check=True, capture_output=True).stdout
    assert said == (tmp_path / "sums").read_bytes()


def test_what_is_no_list_of_sums_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "sums").write_text("0" * 64 + "  a.png\nnot a sum\n")
    with pytest.raises(InputError, match="line 2") as refused:
        read_hashes(tmp_path / "sums")
    assert refused.value.code == "E_ROW"


def test_a_file_that_is_gone_is_not_hashed(tmp_path: Path) -> None:
    records, manifest = listed(tmp_path)
    records[0].image.unlink()
    with pytest.raises(InputError) as refused:
        write_hashes(records, manifest, tmp_path / "sums")
    assert refused.value.code == "E_MISSING"
    assert not (tmp_path / "sums").exists()


def test_check_writes_sums_once_and_refuses_what_changed_since(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, manifest = listed(tmp_path)
    words = ["data", "check", str(manifest)]
    assert main([*words, "--write-hashes", str(tmp_path / "sums")]) == 0
    assert main([*words, "--write-hashes", str(tmp_path / "sums")]) == 2
    assert main([*words, "--hashes", str(tmp_path / "sums")]) == 0
    content = bytearray(records[0].image.read_bytes())
    content[-1] ^= 1
    records[0].image.write_bytes(content)
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "--hashes", str(tmp_path / "sums")]) == 4
    assert "[E_HASH]" in capsys.readouterr().out
    assert main([*words, "--hashes", str(tmp_path / "nowhere")]) == 4
