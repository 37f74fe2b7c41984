"""`python -m tests.crash`: kill what can be killed, at random moments, and see whether anything is lost, doubled or stuck."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from pathlib import Path

import anyio
import structlog

from tests.crash import report
from tests.crash.run import Point, run


def main() -> int:
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    began = time.perf_counter()
    print(f"seed {options.seed}", flush=True)
    points = anyio.run(_strike, options)
    head = report.heading(options.seed, len(points), time.perf_counter() - began)
    report.show(points, head)
    if options.page:
        report.write_page(points, head, options.page)
    return 1 if any(point.findings.faults for point in points) else 0


async def _strike(options: argparse.Namespace) -> list[Point]:
    points = []
    async for point in run(options.seed, options.points, first=options.first):
        print(report.line_of(point), *(point.timeline if options.trace else ()), sep="\n", flush=True)
        points.append(point)
    return points


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--points", type=int, default=200, metavar="N", help="how often to kill (default: 200)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats what an earlier run printed")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="begin with this point of the seed")
    parser.add_argument("--trace", action="store_true", help="print each moment of each point, in seconds")
    parser.add_argument("--page", type=Path, metavar="FILE", help="replace the table in this Markdown page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
