"""What plugin authors and this project test with: fakes, contracts, a scripted model, pytest fixtures.

Names are imported when they are first used, as in `nanoclaw_core` itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanoclaw_core.testing.actions import FakeActionHost, Said
    from nanoclaw_core.testing.channel import FakeChannel, FakeStreamingChannel
    from nanoclaw_core.testing.clock import FakeClock
    from nanoclaw_core.testing.contracts import (
        ActionContract,
        ChannelContract,
        CheckContract,
        MountPolicyContract,
        Platform,
        ProviderContract,
        Shown,
        Trouble,
    )
    from nanoclaw_core.testing.fake_runtime import FakeRuntime
    from nanoclaw_core.testing.scripted_model import Reply, ScriptedModel

_HOMES = {
    "actions": "FakeActionHost Said",
    "channel": "FakeChannel FakeStreamingChannel",
    "clock": "FakeClock",
    "contracts": "ActionContract ChannelContract CheckContract MountPolicyContract Platform ProviderContract Shown Trouble",
    "fake_runtime": "FakeRuntime",
    "scripted_model": "Reply ScriptedModel",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

#: Each name that is on its way out, with its module, what to use instead, and the release that removes it: see `deprecation`.
_DEPRECATED: dict[str, tuple[str, str, str]] = {}

__all__ = [
    "ActionContract",
    "ChannelContract",
    "CheckContract",
    "FakeActionHost",
    "FakeChannel",
    "FakeClock",
    "FakeRuntime",
    "FakeStreamingChannel",
    "MountPolicyContract",
    "Platform",
    "ProviderContract",
    "Reply",
    "Said",
    "ScriptedModel",
    "Shown",
    "Trouble",
]


def __getattr__(name: str) -> Any:  # the type of the name asked for; type checkers see the imports above
    if name in _DEPRECATED:
        return import_module("nanoclaw_core.deprecation").outgoing(__name__, name, *_DEPRECATED[name])
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
