"""`python -m bench`: take the figures, print them, and write them down where asked."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from bench import acceptance, bare, channels, crowded, floor, history, idle, proxy, report, turns
from bench.figures import Figures

Part = Callable[[Figures], Awaitable[None]]


def main() -> None:
    options = _options()
    parts = _parts(options.quick)
    figures = Figures()
    for name in options.only or parts:
        print(f"{name} …", flush=True)
        anyio.run(parts[name], figures)
    report.show(figures)
    if options.json:
        options.json.write_text(report.as_json(figures), encoding="utf-8")
    if options.page:
        report.write_page(figures, options.page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and shorter waits, for a look")
    parser.add_argument("--only", action="append", choices=list(_parts(quick=True)), help="this part alone; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--page", type=Path, metavar="FILE", help="replace the figures in this Markdown page")
    return parser.parse_args()


def _parts(quick: bool) -> dict[str, Part]:
    """What is measured, in its order: the floors first, because ratios refer to them."""
    rounds = 3 if quick else 9
    sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000)
    return {
        "bare": lambda figures: bare.measure(figures, rounds),
        "floor": lambda figures: floor.measure(figures, rounds),
        "turns": lambda figures: turns.measure(figures, rounds),
        "idle": lambda figures: idle.measure(figures, 10 if quick else 60),
        "channels": lambda figures: channels.measure(figures, 1 if quick else 3),
        "acceptance": lambda figures: acceptance.measure(figures, 5 if quick else 60),
        "history": lambda figures: history.measure(figures, sizes, 30 if quick else 200),
        "proxy": lambda figures: proxy.measure(figures, 50 if quick else 300),
        "crowd": lambda figures: crowded.measure(figures, 1_000 if quick else 10_000),
    }


if __name__ == "__main__":
    main()
