"""The records that cross module borders: frozen, slotted, keyword-only.

Times are seconds since the epoch, UTC, as floats. Texts are any valid Unicode without NUL; what arrives otherwise has been
repaired by `clean_text`. Ids are opaque strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

#: Lone surrogates cannot be stored as UTF-8 and NUL cannot be stored by PostgreSQL; both become U+FFFD.
_UNSTORABLE: Final = {0: "\ufffd", **dict.fromkeys(range(0xD800, 0xE000), "\ufffd")}


def clean_text(text: str) -> str:
    """Return `text` with every character that cannot be stored replaced by U+FFFD.

    >>> clean_text("a\\x00b \\ud83d c")
    'a\ufffdb \ufffd c'
    """
    return text.translate(_UNSTORABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a message came from or goes to: a chat on a platform, seen through one account, perhaps a thread of it."""

    channel: str
    chat: str
    thread: str | None = None
    account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who wrote a message, as the platform knows them.

    `handle` is the platform's stable id of the person; `name` is what they call themselves and can be forged.
    """

    handle: str
    name: str
    is_own: bool = False  # set by the channel for messages of the bot's own account, never guessed from the text

    def user_id(self, channel: str) -> str:
        """The user's id across NanoClaw, always prefixed, also when the handle contains a colon.

        >>> Sender(handle="29:1abc", name="Ada").user_id("teams")
        'teams:29:1abc'
        """
        return f"{channel}:{self.handle}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The message that another one answers."""

    message_id: str
    sender_name: str = ""
    text: str = ""


class InboundKind(StrEnum):
    """What a person did."""

    MESSAGE = "message"  # wrote, or sent a file
    EDIT = "edit"  # gave the message `InboundMessage.about` another text
    REACTION = "reaction"  # put the emoji `InboundMessage.text` under the message `about`; '' takes it away
    ANSWER = "answer"  # pressed the button `Choice.id` (in `text`) under the question `Question.id` (in `about`)


class FileKind(StrEnum):
    """What the platform shows a file as."""

    PHOTO = "photo"
    VIDEO = "video"
    VOICE = "voice"
    AUDIO = "audio"
    STICKER = "sticker"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundFile:
    """A file that came with a message, and has not been fetched yet.

    `name` is as the sender chose it and may be anything; it may be empty. `reference` is what the channel's own `fetch` finds
    the file by, also after a restart. `size` is in bytes, where the platform says so.
    """

    name: str
    reference: str
    kind: FileKind = FileKind.FILE
    media_type: str = ""
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """One message as a channel received it.

    `message_id` is the platform's, unique within the chat: a repeated one is the same message. An edit and a reaction have one
    of their own, too, made of whatever tells them apart from the next (a time, a count). `is_group` and `is_mention` come from
    the platform, never from the text or the shape of an id; a reply to the bot is a mention.
    """

    address: Address
    message_id: str
    sender: Sender
    text: str
    sent_at: float
    is_group: bool = False
    is_mention: bool = False
    chat_name: str = ""
    reply_to: Quote | None = None
    kind: InboundKind = InboundKind.MESSAGE
    about: str | None = None
    files: tuple[InboundFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundFile:
    """A file to be sent: `path` is the host's own copy, `name` a bare file name, `size` in bytes."""

    name: str
    path: Path
    size: int
    media_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile(OutboundFile):
    """A file that an agent handed to an action: the type of a parameter. `path` can be read until the call has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What an action has queued: `to` is the name of the destination, `id` what the agent calls the message."""

    to: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundMessage:
    """One part of an answer, short enough for its channel.

    `key` is the same for every try of the same part: a channel whose platform knows idempotency keys passes it on. `text` is
    Markdown; it is empty where `files` go alone. `replaces` is the preview that a `StreamingChannel` showed of this answer:
    this part takes its place. There are files only where `Capabilities.max_file_size` allows each of them.
    """

    to: Address
    text: str
    key: str
    reply_to: str | None = None
    files: tuple[OutboundFile, ...] = ()
    replaces: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A button: `id` is at most 4 characters of ASCII, `label` what people read."""

    id: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked with buttons. `id` is at most 40 characters of ASCII."""

    id: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The platform took a message and calls it `message_id`; `others` are those of the rest, where it made several of it."""

    message_id: str
    others: tuple[str, ...] = ()


class LengthUnit(StrEnum):
    """What a platform counts when it limits the length of a message."""

    CHARACTERS = "characters"
    UTF16 = "utf16"
    BYTES = "bytes"

    def of(self, text: str) -> int:
        """How long a platform finds `text`.

        >>> [unit.of("a🤖") for unit in LengthUnit]
        [2, 3, 5]
        """
        if self is LengthUnit.CHARACTERS:
            return len(text)
        return len(text.encode()) if self is LengthUnit.BYTES else len(text.encode("utf-16-le")) // 2


class Missed(StrEnum):
    """What becomes of a message that was sent while no host ran, or that the host had not stored when it died."""

    REDELIVERED = "redelivered"  # the platform keeps it until it is confirmed
    BACKFILLED = "backfilled"  # the channel asks for what it missed
    LOST = "lost"  # documented so by the channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a platform can do, so that the core can split, format and fall back.

    `idempotent_send` means that sending twice with the same `OutboundMessage.key` shows one message. `patient` means that
    people come back to this channel, so that what waits for them never expires. `max_file_size` is in bytes; with 0 the
    channel cannot send files. `max_caption` is the longest text, in `length_unit`, that can go with a file, and
    `files_at_once` how many files can go together. What else a channel can do shows in the Protocols it has (`ports`).
    """

    max_length: int = 4000
    length_unit: LengthUnit = LengthUnit.CHARACTERS
    threads: bool = False
    idempotent_send: bool = False
    patient: bool = False
    missed: Missed = Missed.LOST
    max_file_size: int = 0
    max_caption: int = 0
    files_at_once: int = 1


class EngageMode(StrEnum):
    """When an agent answers in a chat."""

    PATTERN = "pattern"
    MENTION = "mention"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentGroup:
    """An agent: its name, its folder below `groups/`, and how it is run."""

    id: str
    name: str
    folder: str
    is_main: bool = False
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagingGroup:
    """One chat on one platform."""

    id: str
    channel: str
    account: str
    chat: str
    name: str
    is_group: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """An agent that listens in a chat.

    With `EngageMode.PATTERN`, `pattern` is a regular expression searched in the text ('.' hears everything). With
    `EngageMode.MENTION`, `pattern` is the trigger word (such as '@Andy'); a mention that the platform reports counts too.
    """

    id: str
    messaging_group_id: str
    agent_group_id: str
    engage_mode: EngageMode
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One conversation of one agent group. Its two mailbox files live in `folder` below the home."""

    id: str
    agent_group_id: str
    messaging_group_id: str
    thread: str | None
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerIdentity:
    """Who a worker is, fixed when it starts. Only the SHA-256 of its link secret (hexadecimal) is kept."""

    worker_id: str
    session_id: str
    agent_group: AgentGroup
    secret_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file of a row: where it lies below the session's inbox, or else why it is not there."""

    name: str
    kind: FileKind
    path: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A message that waits for the agent or was heard by it, in the order of `seq`.

    `about` is the platform's id of the message that was edited or reacted to, and `reply_to` tells which one that is.
    """

    seq: int
    id: str
    address: Address
    message_id: str
    sender_id: str
    sender_name: str
    text: str
    sent_at: float
    reply_to: Quote | None = None
    attachment: str | None = None  # a path below the session's inbox, when the text was too long for a prompt
    kind: InboundKind = InboundKind.MESSAGE
    about: str | None = None
    files: tuple[KeptFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What goes to the engine in one piece. `uuid` names it in the engine's transcript; results list the uuids they cover.

    `stream` is whether the chat can show the answer while it is being written.
    """

    uuid: str
    text: str
    stream: bool = False


class FailureKind(StrEnum):
    """Why a turn ended without an answer."""

    MODEL = "model"  # the provider refused or could not be reached
    ENGINE = "engine"  # the engine broke, or would not start
    INTERRUPTED = "interrupted"  # somebody stopped it


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a turn failed: `detail` is one line for people, `status` the provider's HTTP status where there was one."""

    kind: FailureKind
    detail: str
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one turn, as the provider counted them, and how often the model was called."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    model_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """The engine finished: `text` answers the pushes in `covered`, or `failure` says why nothing does.

    `id` is unique over all workers of a session and makes repeated frames harmless. `background` is whether something of the
    agent's goes on all the same.
    """

    id: str
    covered: tuple[str, ...]
    text: str
    conversation: str
    failure: Failure | None = None
    usage: Usage = field(default_factory=Usage)
    background: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the engine does at the moment, for people who wait: never stored, never needed.

    `background` is as in `TurnEnd`; None where nothing is said of it.
    """

    note: str
    background: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Something to be said somewhere, before it has a place in a mailbox."""

    to: Address
    text: str


class OutboundKind(StrEnum):
    """What an outbound row is: words, or the sign that everything before it answers `OutboundRow.settles`.

    A notice is words of NanoClaw itself about its own deliveries: seeing it twice harms nobody, and nobody is told of its loss.
    An edit gives the message `OutboundRow.about` the text, a reaction puts the emoji `text` under it.
    """

    MESSAGE = "message"
    NOTICE = "notice"
    EDIT = "edit"
    REACTION = "reaction"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRow:
    """Something that waits for delivery, in the order of `seq`.

    A `SETTLED` row names in `settles` the platform message ids whose turn ended, and carries `outcome` ('answered', or the
    failure in one word), so that a channel can show that nothing more will come. The paths of `files` are
    relative to the session's folder.
    With `choices`, the labels of buttons, the text is a question. `replaces` is the preview that was shown of it; a `SETTLED`
    row takes away one of which nothing has come.
    """

    seq: int
    to: Address
    text: str = ""
    kind: OutboundKind = OutboundKind.MESSAGE
    reply_to: str | None = None
    about: str | None = None
    files: tuple[OutboundFile, ...] = ()
    choices: tuple[str, ...] = ()
    replaces: str | None = None
    settles: tuple[str, ...] = ()
    outcome: str = ""
    queued_at: float | None = None  # None: it was queued before this was noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """Words of an agent that did not arrive, or perhaps not, with the reason: the agent is told in its next prompt."""

    seq: int
    to: Address
    text: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierCall:
    """What an agent called in a turn that was cut: the successor of its worker is told.

    `result` is None where nobody knows what became of it, `said` what it had delivered. Long texts may be cut.
    """

    action: str
    arguments: str
    result: str | None
    is_error: bool = False
    said: Words | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A host folder or file shown inside a container."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
    """A folder or file of the owner's that an agent is to see below /workspace-extra.

    `source` is absolute, with all links resolved; `target` is its path in the container. `below` holds every name that occurs
    in the folder, with one path, relative to it, where it does.
    """

    agent_group: AgentGroup
    source: Path
    target: str
    read_only: bool = True
    below: Mapping[str, str] = field(default_factory=dict)


class MountDecision(StrEnum):
    """What a policy makes of a mount."""

    ALLOW = "allow"  # as it was asked for
    NARROW = "narrow"  # but read-only
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountVerdict:
    """A decision and, unless it allows everything, the reason for it, for the person who asked.

    `warning` is what the policy's owner should know of the policy itself, whatever it decides.
    """

    decision: MountDecision
    reason: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentMount:
    """A folder or file that an owner gave an agent: `source` on the host is /workspace-extra/`name` in its containers.

    `notice` is what its owner was last told of it: why workers do without it, or may not write there; '' for nothing.
    """

    id: str
    agent_group_id: str
    source: Path
    name: str
    read_only: bool = True
    notice: str = ""

    @property
    def target(self) -> str:
        return f"/workspace-extra/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one container may use at most: bytes of memory (no swap beyond it), cores, processes, bytes of /tmp."""

    memory: int
    cpus: float
    pids: int
    tmp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container to be started.

    There is no field for network, capabilities, privileges or a writable root: every runtime starts every worker without
    them. `user` is 'uid:gid' in numbers. `argv` is a list, never a shell string.
    """

    name: str
    image: str
    argv: tuple[str, ...]
    user: str
    mounts: tuple[Mount, ...]
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """A container that the runtime knows. `exit_code` is None while it runs; a paused one runs, too."""

    id: str
    name: str
    labels: Mapping[str, str]
    running: bool
    exit_code: int | None = None
    out_of_memory: bool = False
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """Everything an image is built from: a tar archive with the Dockerfile in it, and its build arguments."""

    tag: str
    archive: bytes
    arguments: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupField:
    """One thing that a person must supply before a plugin's offer works.

    `variable` is the environment variable (or the key in the secret store or in .env) that holds it. Values of secret fields
    are never shown. `where` says where one gets it, `help` anything else. The whole of a value must match `pattern`, where
    there is one; `form` says in words what that asks for ("digits, a colon, 35 characters"). Where nothing is set, `default`
    stands.
    """

    variable: str
    label: str
    secret: bool = True
    required: bool = True
    help: str = ""
    where: str = ""
    pattern: str = ""
    form: str = ""
    default: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """How to set a channel or provider up, as data, so that set-up, doctor and docs need no code of the plugin.

    `steps` are what a person does first, a short sentence each. With `pairs`, whoever sends a code of `nanoclaw channel pair`
    to the channel in a private chat becomes an owner; the channel does nothing for that.
    """

    fields: tuple[SetupField, ...] = ()
    homepage: str = ""
    steps: tuple[str, ...] = ()
    pairs: bool = False


class PluginState(StrEnum):
    """How a plugin stands."""

    BUILTIN = "builtin"
    ENABLED = "enabled"
    AVAILABLE = "available"  # installed, not enabled, never imported
    BROKEN = "broken"  # enabled and left out: see the reason
    MISSING = "missing"  # enabled, but not installed


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginStatus:
    """One line of `nanoclaw plugin list`. `offers` are texts like 'channel telegram'."""

    name: str
    distribution: str
    version: str
    state: PluginState
    reason: str = ""
    offers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A request of Claude Code to the model, without any credential: the provider adds its own.

    `path` begins with '/', holds no query, and is one of `Provider.paths`; `headers` are lower-case and hold only those
    that are meant for the provider (anthropic-*, content-type, user-agent, x-stainless-*).
    """

    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, told to plugins after the fact.

    `name` is one of the names in `docs/events.md`; `data` holds strings, numbers and None only, never message texts or secrets.
    """

    name: str
    at: float
    data: Mapping[str, Any]
