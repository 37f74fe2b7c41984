"""Contracts: what every implementation of a port must keep, as tests to inherit."""

from nanoclaw_core.testing.contracts.actions import ActionContract
from nanoclaw_core.testing.contracts.channel import ChannelContract
from nanoclaw_core.testing.contracts.checks import CheckContract
from nanoclaw_core.testing.contracts.inbox import Inbox, connected
from nanoclaw_core.testing.contracts.platform import Platform, Shown, Trouble

__all__ = ["ActionContract", "ChannelContract", "CheckContract", "Inbox", "Platform", "Shown", "Trouble", "connected"]
