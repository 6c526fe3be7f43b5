"""Numbered JSON records out of a file, one at a time: the lines of JSONL, or the elements of one JSON array.

Never holds more than one record and a read buffer. Knows nothing of what a record means. Called by the importers.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

CHUNK_BYTES = 1 << 16
MAX_RECORD_CHARACTERS = 1 << 28


@dataclass(frozen=True, slots=True)
class Record:
    """Record `number` (line number, or place in the array; from 1), ending at byte `end` of the file.

    `error` says why `value` couldn't be had; `text` is the source then.
    """

    number: int
    end: int
    value: Any = None
    error: str = ""
    text: str = ""


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file in order. Raises OSError."""
    with path.open("rb") as file:
        start = file.read(CHUNK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()
        file.seek(0)
        # An array, or one object laid out over lines; everything else is read line by line.
        whole = start[:1] == b"[" or start.split(b"\n", 1)[0].strip() == b"{"
        yield from _elements(file) if whole else _lines(file)


def _lines(file: BinaryIO) -> Iterator[Record]:
    end = 0
    for number, line in enumerate(file, 1):
        end += len(line)
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        try:
            yield Record(number, end, json.loads(line))
        except (ValueError, RecursionError) as error:
            yield Record(number, end, error=f"not JSON: {error}", text=line.decode("utf8", "replace").rstrip("\n"))


def _elements(file: BinaryIO) -> Iterator[Record]:
    """Values one after the other, whatever brackets and commas stand around them."""
    decoder = json.JSONDecoder()
    decode = codecs.getincrementaldecoder("utf-8-sig")("replace")
    buffer, number, wanted, at_end = "", 0, CHUNK_BYTES, False
    while True:
        buffer = buffer.lstrip(" \t\r\n,[]")
        try:
            value, stop = decoder.raw_decode(buffer)
        except (ValueError, RecursionError) as error:
            if at_end or len(buffer) > MAX_RECORD_CHARACTERS:
                if buffer:
                    # Where the next value begins can't be known: the rest is one bad record.
                    yield Record(number + 1, file.tell(), error=f"not JSON: {error}", text=buffer)
                return
            chunk = file.read(wanted)
            at_end = len(chunk) < wanted
            buffer += decode.decode(chunk, final=at_end)
            # Reading twice as much each time keeps the decoding of a long record linear.
            wanted = max(CHUNK_BYTES, 2 * len(buffer))
            continue
        number += 1
        buffer, wanted = buffer[stop:], CHUNK_BYTES
        yield Record(number, file.tell() - len(buffer), value)
