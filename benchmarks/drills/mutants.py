"""Damaged copies of valid content: cut, flipped, spliced, overwritten, or edited where a format keeps its meaning.

Everything is drawn from the generator that is passed in, so a mutant is made again from its number.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Mutate = Callable[[bytes, np.random.Generator], bytes]
"""(valid content, randomness) -> damaged content; neither longer than a few times the original."""

HEADER_BYTES = 600
"""Most formats keep what decides on sizes and decoders within these first bytes."""
EXTREME = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01")
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, 1e308, -1e308, math.nan, math.inf),
    *("", " ", "null", "0", "-1", "\0", "../..", "/etc/passwd", "é", "\ud800", "x" * 5000, "1e999", "!!python/object:os.system"),
    *([], {}, [[]], [None], {"": None}, [1] * 100, {"a": {"b": {"c": []}}}),
)
"""What a person or a program may write where something else is meant."""
NESTED = "@nested@"
"""Becomes a list nested 20,000 deep where JSON is written."""


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """The beginning only."""
    return content[: int(rng.integers(0, max(1, len(content))))]


def flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    """One to sixteen bits anywhere."""
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 17)) if damaged else 0):
        damaged[int(rng.integers(len(damaged)))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def edit_header(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four places of the header set to random or extreme bytes, one to eight at a time."""
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 5)) if damaged else 0):
        width = int(2 ** rng.integers(4))
        place = int(rng.integers(min(len(damaged), HEADER_BYTES)))
        new = EXTREME[int(rng.integers(len(EXTREME)))] * width if rng.random() < 0.5 else rng.bytes(width)
        damaged[place : place + width] = new[: len(damaged) - place]
    return bytes(damaged)


def splice(content: bytes, rng: np.random.Generator) -> bytes:
    """A piece of the content copied, moved over another place, or left out."""
    if not content:
        return content
    start, end = sorted(int(place) for place in rng.integers(0, len(content) + 1, 2))
    target, kind = int(rng.integers(len(content) + 1)), int(rng.integers(3))
    piece = content[start:end][:65536]
    if kind == 0:
        return content[:target] + piece + content[target:]
    if kind == 1:
        return content[:target] + piece + content[target + len(piece) :]
    return content[:start] + content[end:]


BYTES: tuple[Mutate, ...] = (cut, flip_bits, edit_header, splice)


def bytes_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """Any of the above, twice in one of four."""
    for _ in range(2 if rng.random() < 0.25 else 1):
        content = BYTES[int(rng.integers(len(BYTES)))](content, rng)
    return content


def tree_mutant(tree: Any, rng: np.random.Generator) -> Any:
    """A copy of nested dicts and lists with one to three entries replaced, left out, renamed or marked as :data:`NESTED`."""
    changed = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(changed))
        if not places:
            return _odd(rng)
        parent, key = places[int(rng.integers(len(places)))]
        kind = rng.random()
        if kind < 0.75:
            parent[key] = _odd(rng)
        elif kind < 0.87:
            del parent[key]
        elif kind < 0.97 and isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)
        else:
            parent[key] = NESTED
    return changed


def _odd(rng: np.random.Generator) -> Any:
    return copy.deepcopy(ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])


def _places(tree: Any) -> Any:
    """(container, key) of every entry, however deep."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in pairs:
            yield node, key
            waiting.append(value)


def text_of(tree: Any) -> bytes:
    """JSON as a careless program writes it: NaN and lone surrogates included, and lists nested 20,000 deep."""
    return json.dumps(tree).replace(f'"{NESTED}"', "[" * 20_000 + "]" * 20_000).encode("utf-8")


def json_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON whose tree was edited; one in four is damaged byte by byte."""
    return bytes_mutant(content, rng) if rng.random() < 0.25 else text_of(tree_mutant(json.loads(content), rng))


def lines_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON lines of which one to three were edited or doubled; one in four files is damaged byte by byte."""
    if rng.random() < 0.25:
        return bytes_mutant(content, rng)
    lines = content.splitlines()
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(lines)))
        # A line that is already edited may not be read any more; it is left as it is.
        with contextlib.suppress(ValueError, RecursionError):
            lines[place] = text_of(tree_mutant(json.loads(lines[place]), rng))
        if rng.random() < 0.2:
            lines.append(lines[place])
    return b"\n".join(lines) + b"\n"


def csv_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """A comma-separated table with one to four cells of odd text, or damaged byte by byte."""
    if rng.random() < 0.4:
        return bytes_mutant(content, rng)
    rows = [row.split(b",") for row in content.splitlines()]
    for _ in range(int(rng.integers(1, 5))):
        row = rows[int(rng.integers(len(rows)))]
        new = str(_odd(rng)).encode("utf-8", "surrogatepass")
        row[int(rng.integers(len(row)))] = new if rng.random() < 0.7 else b'"' + new.replace(b'"', b'""') + b'\r\n"'
    return b"\n".join(b",".join(row) for row in rows) + b"\n"


def yaml_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """YAML whose values were edited, written as JSON (which YAML reads), or damaged byte by byte."""
    import yaml

    return bytes_mutant(content, rng) if rng.random() < 0.4 else text_of(tree_mutant(yaml.safe_load(content), rng))


def png_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """A PNG; half of them with a chunk's content edited and its checksum made right again, so that decoding goes on."""
    if rng.random() < 0.5:
        return bytes_mutant(content, rng)
    chunks, place = [], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += length + 12
    edited = int(rng.integers(len(chunks)))
    kind, held = chunks[edited]
    if kind == b"IDAT" and rng.random() < 0.5:
        held = zlib.compress(bytes_mutant(zlib.decompress(held), rng))
    else:
        held = BYTES[int(rng.integers(len(BYTES)))](held, rng)
    chunks[edited] = (kind, held)
    made = [struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held)) for kind, held in chunks]
    return content[:8] + b"".join(made)


def gzip_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """A gzip file; half of them hold damaged content in a whole stream."""
    import gzip

    return (
        bytes_mutant(content, rng) if rng.random() < 0.5 else gzip.compress(bytes_mutant(gzip.decompress(content), rng), mtime=0)
    )


def zip_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """A zip file; half of them hold a damaged member under a right checksum."""
    import io
    import zipfile

    if rng.random() < 0.5:
        return bytes_mutant(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    edited = int(rng.integers(len(members)))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for index, (info, held) in enumerate(members):
            archive.writestr(info, bytes_mutant(held, rng) if index == edited else held)
    return made.getvalue()


def dicom_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """A DICOM object; half of them with one to three elements set to odd values and written again as they are."""
    import io
    import warnings

    import pydicom

    if rng.random() < 0.5:
        return bytes_mutant(content, rng)
    dataset = pydicom.dcmread(io.BytesIO(content))
    values: tuple[Any, ...] = (
        b"",
        b"\0",
        b"0",
        b"-1",
        b"1e400",
        b"nan",
        b"65536",
        b"\xff\xff",
        b"1\\2\\3",
        b"x" * 300,
        b"\xff" * 8,
    )
    elements = [element for element in dataset if element.tag.group != 2]
    for _ in range(int(rng.integers(1, 4))):
        element = elements[int(rng.integers(len(elements)))]
        raw = pydicom.dataelem.RawDataElement(
            element.tag, element.VR, 0, values[int(rng.integers(len(values)))], 0, False, True, True
        )
        if rng.random() < 0.2:
            dataset.pop(element.tag, None)
        else:
            dict.__setitem__(dataset._dict, element.tag, raw)
    made = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset.save_as(made, enforce_file_format=False)
        except Exception:  # what cannot be written so is damaged as bytes
            return bytes_mutant(content, rng)
    return made.getvalue()


def safetensors_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """A checkpoint; most with its own header, or that of safetensors, edited and the lengths made right again."""
    if rng.random() < 0.25:
        return bytes_mutant(content, rng)
    (length,) = struct.unpack("<Q", content[:8])
    header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]
    if rng.random() < 0.7:
        inner = tree_mutant(json.loads(header["__metadata__"]["medanomaly"]), rng)
        header["__metadata__"]["medanomaly"] = text_of(inner).decode("utf-8")
    else:
        header = tree_mutant(header, rng)
    text = text_of(header)
    return struct.pack("<Q", len(text)) + text + tensors


def state_mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """A training state; most with entries of its tree replaced and saved again."""
    import io

    import torch

    if rng.random() < 0.4:
        return bytes_mutant(content, rng)
    state = torch.load(io.BytesIO(content), weights_only=True)
    made = io.BytesIO()
    torch.save(tree_mutant(state, rng), made)
    return made.getvalue()
