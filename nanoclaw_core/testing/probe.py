"""Loads one plugin in this process, and says what that did: for `nanoclaw plugin check`, which starts a process for it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib import metadata
from time import perf_counter


def probe(name: str) -> str:
    """Load the plugin `name`, with nothing else enabled; one line of JSON."""
    from nanoclaw_core.installed import discover
    from nanoclaw_core.plugins import load

    (found,) = [plugin for plugin in discover() if plugin.name == name]
    before, began = set(sys.modules), perf_counter()
    plugins = load([name], ())
    seconds = perf_counter() - began
    imported = {module.partition(".")[0] for module in set(sys.modules) - before}
    (status,) = [status for status in plugins.statuses if status.name == name]
    report = {
        "state": status.state.value,
        "reason": status.reason,
        "offers": list(status.offers),
        "seconds": seconds,
        "libraries": sorted(imported & _libraries_of(found.distribution)),
        "fields": [asdict(field) for field in plugins.fields()],
    }
    return json.dumps(report)


def _libraries_of(distribution: str) -> set[str]:
    """The top-level modules of what the distribution needs and the core does not."""
    own = _needed_by(distribution) - _needed_by("nanoclaw-core") - {"nanoclaw-core"}
    modules = metadata.packages_distributions().items()
    return {module for module, owners in modules if own & {_name(each) for each in owners} and not module.startswith("_")}


def _needed_by(distribution: str) -> set[str]:
    from packaging.requirements import Requirement

    wishes = map(Requirement, metadata.requires(distribution) or ())
    return {_name(wish.name) for wish in wishes if wish.marker is None or wish.marker.evaluate({"extra": ""})}


def _name(text: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(text)
