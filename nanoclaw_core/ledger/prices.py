"""What a model's tokens cost: the table of this package, and the home's own `prices.json` over it.

Money is counted in billionths of a US dollar, so that a price per million tokens is a whole number for each token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Final

import msgspec

from nanoclaw_core.errors import NanoClawError

FILE: Final = "prices.json"
DOLLAR: Final = 1_000_000_000
_LARGEST: Final = 256 * 1024
_PER_MILLION: Final = DOLLAR // 1_000_000
#: Nothing, or how the API names a version of a model.
_VERSION: Final = re.compile(r"(?:[-@](?:\d{8}|latest))?")

_DEAREST: Final = 1_000_000


class PricesInvalid(NanoClawError):
    """The home's price table is none; the packaged one counts."""

    exit_code = 3

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is no price table: {reason}. The packaged prices count instead. docs/settings.md has an example; "
            "correct the file, or remove it."
        )


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars for a million tokens, in calls with at most `up_to` tokens in (None: any number).

    What is not said of the cache costs as input does.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    up_to: Annotated[int, msgspec.Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        for price in (self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h):
            if price is not None and not (price.is_finite() and 0 <= price <= _DEAREST):
                raise ValueError(f"a price is a number of dollars from 0 to {_DEAREST:,}")


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models by name, which stands for all their dated versions; one that ends with '*' for whatever begins so."""

    as_of: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
    models: Mapping[str, Sequence[Band]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens of one call. `cache_write_1h` is the part of `cache_write` that is kept for an hour, which costs more."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0

    @property
    def all_in(self) -> int:
        return self.input + self.cache_read + self.cache_write

    @property
    def total(self) -> int:
        return self.all_in + self.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The bands of a model's price, and the date of the table that has them."""

    bands: Sequence[Band]
    as_of: str

    def cost(self, tokens: Tokens) -> int | None:
        """What a call costs, rounded up; None where the table does not say.

        >>> Rate(bands=[Band(input=Decimal(3), output=Decimal(15))], as_of="").cost(Tokens(input=1000, output=10))
        3150000
        """
        fitting = (band for band in self.bands if band.up_to is None or tokens.all_in <= band.up_to)
        return next((_cost(band, tokens) for band in fitting), None)

    def most(self, tokens: Tokens) -> int:
        """The most that a call may cost whatever its length: as if each token in went into the cache at its dearest."""
        dear = Tokens(cache_write=tokens.all_in, cache_write_1h=tokens.all_in, output=tokens.output)
        return max((max(_cost(band, dear), _cost(band, tokens)) for band in self.bands), default=0)


def _cost(band: Band, tokens: Tokens) -> int:
    long = min(tokens.cache_write_1h, tokens.cache_write)
    write = band.input if band.cache_write is None else band.cache_write
    parts = (
        (tokens.input, band.input),
        (tokens.output, band.output),
        (tokens.cache_read, band.input if band.cache_read is None else band.cache_read),
        (tokens.cache_write - long, write),
        (long, write if band.cache_write_1h is None else band.cache_write_1h),
    )
    return int(-(-sum(count * price for count, price in parts) * _PER_MILLION // 1))


class Prices:
    """The tables in force: the home's, where it has a model, before the packaged one."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE
        self._own: PriceTable | None = None
        self._stamp: tuple[int, int] | None = None
        self._fault: PricesInvalid | None = None

    def check(self) -> PricesInvalid | None:
        """Read the home's table again if it has changed, and say what is wrong with it. Blocks for a moment."""
        try:
            found = self.path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._stamp, self._own, self._fault = stamp, None, None
            if stamp is not None:
                try:
                    self._own = read(self.path)
                except PricesInvalid as fault:
                    self._fault = fault
        return self._fault

    @property
    def as_of(self) -> str | None:
        """The date of the home's own table, where there is one that counts."""
        self.check()
        return self._own.as_of if self._own else None

    def rate(self, model: str) -> Rate | None:
        """What `model` costs; None where no table has it."""
        self.check()
        tables = (self._own, packaged())
        return next((rate for table in tables if table and (rate := _find(table, model))), None)


@cache
def packaged() -> PriceTable:
    """The table that comes with this version."""
    return read(Path(__file__).with_name(FILE))


def read(path: Path) -> PriceTable:
    """The table in a file.

    Raises:
        PricesInvalid: it is none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise PricesInvalid(path, f"it is longer than {_LARGEST:,} bytes")
        return msgspec.json.decode(text, type=PriceTable)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PricesInvalid(path, str(error).partition("\n")[0]) from error
    except OSError as error:
        raise PricesInvalid(path, error.strerror or str(error)) from error


def _find(table: PriceTable, model: str) -> Rate | None:
    fitting = [name for name in table.models if _fits(name, model)]
    return Rate(bands=table.models[max(fitting, key=len)], as_of=table.as_of) if fitting else None


def _fits(name: str, model: str) -> bool:
    if name.endswith("*"):
        return model.startswith(name[:-1])
    return model.startswith(name) and _VERSION.fullmatch(model, len(name)) is not None
