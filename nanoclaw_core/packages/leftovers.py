"""What uninstalled plugins have left in the home."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nanoclaw_core.packages.lockfile import read_lock
from nanoclaw_core.packages.records import Lock
from nanoclaw_core.store.inspection import ChannelData, data_of_channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """The data of one plugin. `name` is its channel's where nobody knows which plugin that was; then `distribution` is ''."""

    name: str
    distribution: str = ""
    channels: Mapping[str, ChannelData] = field(default_factory=dict)
    variables: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """All of it in a line; names of variables, never their values."""
        parts = [
            f"channel {name}: {data.chats} chats ({data.wired} wired), {data.messages} messages"
            for name, data in self.channels.items()
        ]
        return "; ".join(parts + [f"settings {', '.join(self.variables)}"] * bool(self.variables))


def leftovers(home: Path, installed: Iterable[str], offered: Iterable[str], variables: Iterable[str]) -> list[Leftover]:
    """What plugins that are not among the `installed` have left. Blocks.

    `offered` are the channels that there are, `variables` the names of all settings. A channel that carries the name of an
    installed plugin is taken for its own.

    Raises:
        DatabaseBroken, HomeUnusable: the database or the lock cannot be read.
    """
    here = set(installed)
    remembered = (read_lock(home) or Lock()).remembered
    owned = {*offered, *here, *(channel for name in here & remembered.keys() for channel in remembered[name].channels)}
    data = {channel: found for channel, found in data_of_channels(home / "nanoclaw.db").items() if channel not in owned}
    found = []
    for name in sorted(remembered.keys() - here):
        gone = remembered[name]
        channels = {channel: data.pop(channel) for channel in gone.channels if channel in data}
        kept = tuple(variable for variable in gone.variables if variable in set(variables))
        if channels or kept:
            found.append(Leftover(name=name, distribution=gone.distribution, channels=channels, variables=kept))
    return found + [Leftover(name=channel, channels={channel: there}) for channel, there in data.items()]
