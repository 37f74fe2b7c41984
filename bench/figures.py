"""A figure: what was measured, how often, and what it is held against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Samples of one quantity in `unit`. `aim` is the most that it should be, or the least where `is_rate`.

    `floor` names the figure that bounds this one; the report prints the ratio, which should be `most_ratio` at most.
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    aim: float | None = None
    floor: str | None = None
    most_ratio: float | None = None
    is_rate: bool = False

    @property
    def median(self) -> float:
        return median(self.samples)

    def percentile(self, share: float) -> float:
        """The smallest sample that at least `share` (0 to 1) of all samples do not exceed."""
        ordered = sorted(self.samples)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(slots=True, kw_only=True)
class Figures:
    """All figures of a run, in the order of their taking; `report` hears each as it comes."""

    found: list[Figure] = field(default_factory=list)

    def add(self, name: str, unit: str, samples: Iterable[float], **more: object) -> Figure:
        figure = Figure(name=name, unit=unit, samples=tuple(samples), **more)  # type: ignore[arg-type]  # see `Figure`
        self.found.append(figure)
        print(f"  {name}: {number(figure.median)} {unit}", flush=True)
        return figure

    def named(self, name: str) -> Figure | None:
        return next((figure for figure in self.found if figure.name == name), None)

    def ratio(self, figure: Figure) -> float | None:
        """How many times its floor the figure is; None without one."""
        floor = self.named(figure.floor) if figure.floor else None
        return figure.median / floor.median if floor and floor.median else None

    def meets_aim(self, figure: Figure) -> bool | None:
        """None where there is no aim, or nothing to hold it against."""
        if figure.most_ratio is not None:
            ratio = self.ratio(figure)
            return None if ratio is None else ratio <= figure.most_ratio
        if figure.aim is None:
            return None
        return figure.median >= figure.aim if figure.is_rate else figure.median <= figure.aim


def number(value: float) -> str:
    """A value for people: three digits that mean something.

    >>> number(0.04567), number(1.234), number(512.3)
    ('0.0457', '1.23', '512')
    """
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def spread(samples: Sequence[float]) -> str:
    return f"{number(min(samples))} – {number(max(samples))}" if len(samples) > 1 else ""
