"""JSON that a worker sent, read only when reading it cannot hold the host up."""

from __future__ import annotations

import json
from dataclasses import dataclass


class TooIntricate(ValueError):
    """A document of so many parts that only somebody who wants to keep the host busy writes it."""

    def __init__(self) -> None:
        super().__init__("the JSON has too many parts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many quotation marks a document may have (two for each string), and how many bytes outside of its strings.

    Long strings are read fast; what takes time and memory is the number of values. Texts may hold any number of commas and
    brackets, so that a conversation about JSON is not taken for an attack.
    """

    quotes: int
    bare: int

    def fits(self, body: bytes | bytearray) -> bool:
        plain = body.replace(rb"\\", b"").replace(rb"\"", b"")  # outside of strings, a backslash ends the parsing
        return plain.count(b'"') <= self.quotes and sum(map(len, plain.split(b'"')[::2])) <= self.bare


def read(body: bytes | bytearray, shape: Shape) -> object:
    """What `body` says in UTF-8. Other encodings, which `json` would guess, could hide quotation marks from `shape`.

    Raises:
        ValueError: it is no JSON, nested too deeply, or `TooIntricate`.
    """
    if not shape.fits(body):
        raise TooIntricate
    try:
        return json.loads(body.decode("utf-8", "surrogatepass"))
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
