"""What `plugins.lock` holds: the set of packages that plugins consist of, and the sets before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Source = Literal["index", "wheel", "folder", "pip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One installed distribution. `source` 'pip' is what somebody installed without NanoClaw, or that the core had before.

    `sha256` and `wheel` name the kept wheel, '' where none is kept; `origin` is the path of a wheel or folder. `brought` says
    that it was not there before NanoClaw installed it. `record` is a fingerprint of what is installed under the name.
    """

    name: str
    version: str
    source: Source
    origin: str = ""
    sha256: str = ""
    wheel: str = ""
    plugins: tuple[str, ...] = ()
    needed_by: tuple[str, ...] = ()
    brought: bool = False
    record: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSet:
    """The packages at one time, by name: plugins and what they need beyond the core. `enabled` is from when it was left."""

    packages: tuple[Package, ...] = ()
    made_at: float = 0.0
    made_by: str = ""
    enabled: tuple[str, ...] = ()

    def get(self, name: str) -> Package | None:
        return next((package for package in self.packages if package.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a plugin leaves in the home when it is uninstalled: chats of its channels, and its variables in `.env`."""

    distribution: str
    channels: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """All of `plugins.lock`. `previous` has the newest set first; `unfinished` is what a change
    that was cut short was to add."""

    format: Literal[1] = 1
    current: PluginSet = field(default_factory=PluginSet)
    previous: tuple[PluginSet, ...] = ()
    remembered: Mapping[str, Remains] = field(default_factory=dict)
    unfinished: PluginSet | None = None
