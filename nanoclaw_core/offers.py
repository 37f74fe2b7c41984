"""Makes of what plugins offer what one host uses: its model provider and its channels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import anyio
from anyio import to_thread

from nanoclaw_core.models import Manifest
from nanoclaw_core.plugins import Plugins
from nanoclaw_core.ports import Channel, ChannelContext, ChannelFactory, Clock, Provider, ProviderContext
from nanoclaw_core.settings import Settings
from nanoclaw_core.supervise import Health, State, survive
from nanoclaw_core.switches import switched_off

DEMO = "demo"
MADE_WITHIN = 30.0  # seconds
_NO_CREDENTIAL = "No credential is set, so the demo provider answers. Set ANTHROPIC_API_KEY to talk to Claude."


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model provider of a host, and what people should know about it, a line each."""

    name: str
    provider: Provider
    notices: tuple[str, ...]

    @property
    def is_demo(self) -> bool:
        return self.name == DEMO


def choose_model(settings: Settings, plugins: Plugins) -> Model:
    """The configured provider; with 'auto' the first that has what it requires, or the demo, which requires nothing.

    Raises:
        UnknownName: nobody offers it. SettingInvalid: it lacks a credential, or something else it needs.
    """
    offers = plugins.providers()
    ready = (
        name
        for name, offer in offers.items()
        if any(field.required for field in offer.value.manifest.fields) and not missing(offer.value.manifest, settings)
    )
    name = next(ready, DEMO) if settings.provider == "auto" else settings.provider
    factory = plugins.choose("provider", name)
    notices = [_NO_CREDENTIAL] if (settings.provider, name) == ("auto", DEMO) else []
    context = ProviderContext(
        settings=values(factory.manifest, settings),
        warn=notices.append,
        refuse_real_models=settings.refuse_real_models,
        silence=settings.model_silence,
    )
    provider = factory.create(context)
    return Model(name=name, provider=provider, notices=tuple(notices))


async def make_channels(
    settings: Settings,
    plugins: Plugins,
    clock: Clock,
    context_of: Callable[[str, Mapping[str, str]], ChannelContext],
) -> tuple[dict[str, Channel], dict[str, Health]]:
    """Every channel that has what it requires, and how all of them are; `context_of` gets a channel's name and settings."""
    channels: dict[str, Channel] = {}
    healths: dict[str, Health] = {}
    off = await to_thread.run_sync(switched_off, settings.home)
    for name, offer in plugins.channels().items():
        health = healths[name] = Health(name=name)
        context = context_of(name, values(offer.value.manifest, settings))
        reason = idle_reason(name, offer.value.manifest, settings, off) or await _make(offer.value, context, channels)
        if reason:
            health.become(State.ENDED, clock.time(), reason)
    return channels, healths


async def _make(factory: ChannelFactory, context: ChannelContext, channels: dict[str, Channel]) -> str | None:
    """Add the channel, or return why it cannot be made. It is made in a thread: platform libraries import slowly."""

    async def make() -> None:
        channels[factory.name] = await to_thread.run_sync(factory.create, context, abandon_on_cancel=True)

    with anyio.move_on_after(MADE_WITHIN):
        return await survive(f"channel {factory.name}", make())
    return f"its plugin did not make it within {MADE_WITHIN:g} s; upgrade it, or `nanoclaw channel disable {factory.name}`"


def idle_reason(name: str, manifest: Manifest, settings: Settings, off: Collection[str]) -> str:
    """Why a channel is not made, or ''."""
    if name in off:
        return f"switched off: `nanoclaw channel enable {name}`"
    if lacking := missing(manifest, settings):
        return f"not set up: {', '.join(lacking)} is not set (`nanoclaw channel setup {name}`)"
    return ""


def missing(manifest: Manifest, settings: Settings) -> list[str]:
    """The required variables that are not set and have no default."""
    set_ = values(manifest, settings)
    return [field.variable for field in manifest.fields if field.required and not set_.get(field.variable)]


def values(manifest: Manifest, settings: Settings) -> Mapping[str, str]:
    """What is set of the variables that a manifest names, or is their default, and nothing else."""
    defaults = {field.variable: field.default for field in manifest.fields if field.default}
    named = (field.variable for field in manifest.fields)
    return defaults | {variable: settings.variables[variable] for variable in named if variable in settings.variables}
