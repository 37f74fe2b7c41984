"""NanoClaw: a personal AI assistant in the chats you already use, answered by Claude Code from inside a container.

This module is the door for plugin authors: every public name, and nothing that is not public. Names are imported when they
are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanoclaw_core.errors import (
        ActionRefused,
        ChannelRevoked,
        ChatMoved,
        ContainerFailed,
        CredentialRefused,
        DeliveryError,
        ImageBuildFailed,
        MessageTooLong,
        ModelUnavailable,
        NanoClawError,
        OutcomeUnknown,
        Refused,
        RuntimeUnavailable,
        TryLater,
    )
    from nanoclaw_core.hookspecs import hookimpl
    from nanoclaw_core.models import (
        Address,
        AgentGroup,
        BuildContext,
        Capabilities,
        Choice,
        ContainerSpec,
        ContainerState,
        Event,
        FileKind,
        InboundFile,
        InboundKind,
        InboundMessage,
        LengthUnit,
        Limits,
        Manifest,
        Missed,
        ModelRequest,
        Mount,
        MountDecision,
        MountRequest,
        MountVerdict,
        OutboundFile,
        OutboundMessage,
        PluginState,
        PluginStatus,
        Progress,
        Question,
        Quote,
        Receipt,
        Sender,
        Sent,
        SetupField,
        UploadedFile,
        clean_text,
    )
    from nanoclaw_core.ports import (
        Action,
        ActionCall,
        ActionHost,
        AskingChannel,
        Channel,
        ChannelContext,
        ChannelFactory,
        Check,
        CheckContext,
        CheckResult,
        CheckStatus,
        Clock,
        ClosingProvider,
        EditingChannel,
        FetchingChannel,
        MeasuringRuntime,
        ModelResponse,
        MountPolicy,
        PausingRuntime,
        Provider,
        ProviderContext,
        ProviderFactory,
        ReactingChannel,
        ReadingRuntime,
        Receive,
        Runtime,
        RuntimeFactory,
        SettlingChannel,
        StreamingChannel,
        TypingChannel,
    )
    from nanoclaw_core.upstream import HttpUpstream

__version__ = "0.1.0"

_HOMES = {
    "errors": "ActionRefused ChannelRevoked ChatMoved ContainerFailed CredentialRefused DeliveryError ImageBuildFailed "
    "MessageTooLong ModelUnavailable NanoClawError OutcomeUnknown Refused RuntimeUnavailable TryLater",
    "hookspecs": "hookimpl",
    "models": "Address AgentGroup BuildContext Capabilities Choice ContainerSpec ContainerState Event FileKind "
    "InboundFile InboundKind InboundMessage LengthUnit Limits Manifest Missed ModelRequest Mount "
    "MountDecision MountRequest MountVerdict OutboundFile OutboundMessage PluginState PluginStatus Progress "
    "Question Quote Receipt Sender Sent SetupField UploadedFile clean_text",
    "ports": "Action ActionCall ActionHost AskingChannel Channel ChannelContext ChannelFactory Check CheckContext "
    "CheckResult CheckStatus Clock ClosingProvider EditingChannel FetchingChannel MeasuringRuntime "
    "ModelResponse MountPolicy PausingRuntime Provider ProviderContext ProviderFactory ReactingChannel ReadingRuntime "
    "Receive Runtime RuntimeFactory SettlingChannel StreamingChannel TypingChannel",
    "upstream": "HttpUpstream",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

#: Each name that is on its way out, with its module, what to use instead, and the release that removes it: see `deprecation`.
_DEPRECATED: dict[str, tuple[str, str, str]] = {}

__all__ = [
    "Action",
    "ActionCall",
    "ActionHost",
    "ActionRefused",
    "Address",
    "AgentGroup",
    "AskingChannel",
    "BuildContext",
    "Capabilities",
    "Channel",
    "ChannelContext",
    "ChannelFactory",
    "ChannelRevoked",
    "ChatMoved",
    "Check",
    "CheckContext",
    "CheckResult",
    "CheckStatus",
    "Choice",
    "Clock",
    "ClosingProvider",
    "ContainerFailed",
    "ContainerSpec",
    "ContainerState",
    "CredentialRefused",
    "DeliveryError",
    "EditingChannel",
    "Event",
    "FetchingChannel",
    "FileKind",
    "HttpUpstream",
    "ImageBuildFailed",
    "InboundFile",
    "InboundKind",
    "InboundMessage",
    "LengthUnit",
    "Limits",
    "Manifest",
    "MeasuringRuntime",
    "MessageTooLong",
    "Missed",
    "ModelRequest",
    "ModelResponse",
    "ModelUnavailable",
    "Mount",
    "MountDecision",
    "MountPolicy",
    "MountRequest",
    "MountVerdict",
    "NanoClawError",
    "OutboundFile",
    "OutboundMessage",
    "OutcomeUnknown",
    "PausingRuntime",
    "PluginState",
    "PluginStatus",
    "Progress",
    "Provider",
    "ProviderContext",
    "ProviderFactory",
    "Question",
    "Quote",
    "ReactingChannel",
    "ReadingRuntime",
    "Receipt",
    "Receive",
    "Refused",
    "Runtime",
    "RuntimeFactory",
    "RuntimeUnavailable",
    "Sender",
    "Sent",
    "SettlingChannel",
    "SetupField",
    "StreamingChannel",
    "TryLater",
    "TypingChannel",
    "UploadedFile",
    "__version__",
    "clean_text",
    "hookimpl",
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
