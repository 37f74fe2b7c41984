"""Contracts: what every implementation of a port must keep, as tests to inherit."""

from nanoclaw_core.testing.contracts.actions import ActionContract
from nanoclaw_core.testing.contracts.channel import ChannelContract
from nanoclaw_core.testing.contracts.checks import CheckContract
from nanoclaw_core.testing.contracts.inbox import Inbox, connected
from nanoclaw_core.testing.contracts.mounts import MountPolicyContract
from nanoclaw_core.testing.contracts.platform import Platform, Shown, Trouble
from nanoclaw_core.testing.contracts.providers import ProviderContract

__all__ = [
    "ActionContract",
    "ChannelContract",
    "CheckContract",
    "Inbox",
    "MountPolicyContract",
    "Platform",
    "ProviderContract",
    "Shown",
    "Trouble",
    "connected",
]
