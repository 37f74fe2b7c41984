"""The hooks that a plugin may implement.

A plugin is a module (or object) behind an entry point of the group `nanoclaw`:

    [project.entry-points.nanoclaw]
    dice = "nanoclaw_dice"

Hooks are synchronous and *offer* things; input and output live in the async objects they offer. An implementation that
raises, or is `async def`, costs only its own plugin. `docs/plugins/` has one whole plugin per hook.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from nanoclaw_core.models import Event
from nanoclaw_core.ports import Action, ChannelFactory, Check, MountPolicy, ProviderFactory, RuntimeFactory

hookspec = pluggy.HookspecMarker("nanoclaw")
hookimpl = pluggy.HookimplMarker("nanoclaw")


@hookspec
def nanoclaw_channels() -> Iterable[ChannelFactory]:
    """Offer chat platforms.

    >>> @hookimpl
    ... def nanoclaw_channels():
    ...     return [ChannelFactory(name="parrot", summary="Says it again", create=lambda context: Parrot())]
    """
    return ()


@hookspec
def nanoclaw_providers() -> Iterable[ProviderFactory]:
    """Offer model providers.

    >>> @hookimpl
    ... def nanoclaw_providers():
    ...     return [ProviderFactory(name="silent", summary="Never answers", create=lambda context: Silent())]
    """
    return ()


@hookspec
def nanoclaw_actions() -> Iterable[Action[Any]]:
    """Offer actions that agents may call on the host.

    >>> @hookimpl
    ... def nanoclaw_actions():
    ...     return [Action(name="roll_dice", description="Roll one die.", parameters=RollDice, handler=roll)]
    """
    return ()


@hookspec
def nanoclaw_runtimes() -> Iterable[RuntimeFactory]:
    """Offer container runtimes.

    >>> @hookimpl
    ... def nanoclaw_runtimes():
    ...     return [RuntimeFactory(name="podman", summary="Podman without a daemon", create=Podman)]
    """
    return ()


@hookspec
def nanoclaw_checks() -> Iterable[Check]:
    """Offer lines of `nanoclaw doctor`.

    >>> @hookimpl
    ... def nanoclaw_checks():
    ...     return [Check(name="cage", run=look_into_the_cage)]
    """
    return ()


@hookspec
def nanoclaw_mount_policies() -> Iterable[MountPolicy]:
    """Offer a say in which folders agents may see. Every policy must allow a mount; any may refuse or narrow it.

    >>> @hookimpl
    ... def nanoclaw_mount_policies():
    ...     return [MountPolicy(name="no-keys", summary="Hides ~/.ssh", judge=no_keys)]
    """
    return ()


@hookspec
def nanoclaw_event(event: Event) -> None:
    """Hear what happened, after the fact. Must return at once: it runs on the host's event loop.

    >>> @hookimpl
    ... def nanoclaw_event(event):
    ...     if event.name == "turn.ended":
    ...         counts[event.data["agent"]] += 1
    """
