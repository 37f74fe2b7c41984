"""Everything that can be implemented more than once, in one file.

A *port* states a rule; the built-in implementation, a plugin's and the test fake all keep it, and the contract tests in
`nanoclaw_core.testing` check that they do. All methods run on the host's one event loop: nothing may block it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from anyio.abc import TaskStatus

from nanoclaw_core.models import (
    Address,
    AgentGroup,
    BuildContext,
    Capabilities,
    ContainerSpec,
    ContainerState,
    EarlierCall,
    InboundFile,
    InboundMessage,
    Manifest,
    ModelRequest,
    MountRequest,
    MountVerdict,
    OutboundFile,
    OutboundMessage,
    PluginStatus,
    Progress,
    Push,
    Question,
    Receipt,
    Row,
    Sent,
    SetupField,
    TurnEnd,
    Undelivered,
    Words,
    WorkerIdentity,
)

# --- channels -----------------------------------------------------------------------------------------------------------


class Receive(Protocol):
    """What a channel calls for every message that it gets."""

    async def __call__(self, message: InboundMessage, cursor: str | None = None) -> bool:
        """Store `message`, and with it `cursor`, the place in the platform's stream; return when both survive a power cut.

        Returns False for a message id that is known already. A channel confirms a message to its platform only afterwards.

        A question's answer that is not the first returns False as well, whatever its `message_id`.

        Raises:
            MessageTooLong: nothing was stored; tell the sender.
        """


class Channel(Protocol):
    """One account on one chat platform.

    >>> class Parrot:
    ...     capabilities = Capabilities(max_length=280)
    ...     async def run(self, receive, *, task_status):
    ...         task_status.started()
    ...         await anyio.sleep_forever()
    ...     async def send(self, message):
    ...         return Receipt(message_id=message.key)
    """

    capabilities: Capabilities

    async def run(self, receive: Receive, *, task_status: TaskStatus[None]) -> None:
        """Own the connection until cancelled; call `task_status.started()` once messages can flow.

        Whatever is raised ends this attempt: the supervisor logs it, waits a growing pause and calls `run` again. Clean-up
        belongs into a shielded scope with a deadline.

        Raises:
            ChannelRevoked: the platform takes the credential no more: the channel stays off, and the owner is told.
        """

    async def send(self, message: OutboundMessage) -> Receipt:
        """Send one part and return when the platform has taken it. May be called before `run`, and while it pauses.

        Raises:
            TryLater: not sent, try again. Refused: not sent, do not try again. OutcomeUnknown: perhaps sent.
            ChatMoved: not sent; the chat has another id now.
        """


@runtime_checkable
class TypingChannel(Protocol):
    """A channel that can show that the agent is at work."""

    async def typing(self, to: Address, progress: Progress) -> None:
        """Show it for a few seconds; called again while the work goes on. Failures are ignored."""


@runtime_checkable
class SettlingChannel(Protocol):
    """A channel whose people can see that an answer is complete."""

    async def settled(self, to: Address, message_ids: tuple[str, ...], outcome: str) -> None:
        """Everything that answers the messages `message_ids` has been sent.

        Raises:
            TryLater: nobody is there to be told yet.
        """


@runtime_checkable
class FetchingChannel(Protocol):
    """A channel whose messages can come with files."""

    def fetch(self, file: InboundFile) -> AsyncIterator[bytes]:
        """The content of a file of a message that was received, as it comes, also after a restart.

        Raises:
            TryLater: not now. Refused: it is gone, or too large for this channel; the reason is told to the agent.
        """


@runtime_checkable
class EditingChannel(Protocol):
    """A channel that can change what it sent."""

    async def edit(self, to: Address, message_id: str, text: str) -> None:
        """Give the message another text, at most `Capabilities.max_length` long. Raises what `send` raises."""


@runtime_checkable
class ReactingChannel(Protocol):
    """A channel that can put an emoji under a message."""

    async def react(self, to: Address, message_id: str, emoji: str) -> None:
        """React with `emoji`, instead of what it reacted with before; '' takes that away. Raises what `send` raises."""


@runtime_checkable
class AskingChannel(Protocol):
    """A channel that can put buttons under a message. Pressing one is an `InboundKind.ANSWER`."""

    async def ask(self, message: OutboundMessage, question: Question) -> Receipt:
        """Send `message`, which has no files, with a button for each choice. Raises what `send` raises."""

    async def answered(self, to: Address, message_id: str, text: str) -> None:
        """Take the buttons away and show that the question was answered with `text`. Raises what `send` raises."""


@runtime_checkable
class StreamingChannel(Protocol):
    """A channel that can show an answer while it is being written."""

    async def draft(self, to: Address, text: str, key: str, message_id: str | None = None) -> str | None:
        """Show `text`, the beginning of an answer, in place of what the call before with this `key` showed.

        `text` is at most `Capabilities.max_length` long. `message_id` is what that call returned. Returns the id of the message
        that the finished answer shall replace (`OutboundMessage.replaces`), or None where the preview goes by itself. Called
        at every change: the channel leaves out what the platform has no time for, and never waits. `TryLater` leaves out one;
        after any other failure no more are shown of this answer.

        With '' for `text`, nothing came of the answer: the message `message_id` is taken away, or, where the platform cannot do
        that, loses its words. Raises what `send` raises.

        `send` of a message that replaces a preview which is there no more sends it as a new one.
        """


async def _no_cursor() -> str | None:
    return None


async def _unmoved(old: str, new: str) -> None:
    """What a context does that knows no chats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelContext:
    """What a channel factory gets.

    `settings` maps the variables of its manifest to their values. `wake(chat)` says that a chat can be reached again, so that
    what waits for it is tried at once instead of after its pause. `cursor()` is the one that was stored last. `moved(old, new)`
    says that a chat has another id now; it returns when that is stored. `clock` is the host's.
    """

    settings: Mapping[str, str]
    wake: Callable[[str], None]
    cursor: Callable[[], Awaitable[str | None]] = _no_cursor
    moved: Callable[[str, str], Awaitable[None]] = _unmoved
    clock: Clock | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFactory:
    """A channel that a plugin offers: `create` may import the platform's library, the plugin's module must not.

    `check` asks the platform whether it accepts these values of the manifest's variables, and returns in one line whose they
    are ("@nano_bot, Nano"). It raises `CredentialRefused` when the platform says no, and another `NanoClawError` (such as
    `TryLater`) when it cannot be asked.
    """

    name: str
    summary: str
    create: Callable[[ChannelContext], Channel]
    manifest: Manifest = field(default_factory=Manifest)
    check: Callable[[Mapping[str, str]], Awaitable[str]] | None = None


# --- model providers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResponse:
    """A provider's answer in the shape of Anthropic's Messages API: JSON, or server-sent events as they come."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Provider(Protocol):
    """Something that answers the Messages API (https://docs.anthropic.com/en/api/messages).

    `paths` are the only paths that a worker can reach.

    >>> class Silent:
    ...     paths = frozenset({"/v1/messages"})
    ...     def respond(self, request):
    ...         raise ModelUnavailable("this provider is silent", status=503)
    ...     async def models(self):
    ...         return []
    """

    paths: frozenset[str]

    def respond(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelResponse]:
        """Send `request` with the provider's own credential. Leaving the context ends the provider's work on it.

        Raises:
            ModelUnavailable: on entering, or while the chunks are read.
        """

    async def models(self) -> Sequence[str]:
        """The ids of the models that can be asked for, the default first; empty when unknown."""


@runtime_checkable
class ClosingProvider(Protocol):
    """A provider that holds connections."""

    async def aclose(self) -> None:
        """Let go of them; the host ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderContext:
    """What a provider factory gets: the values of its manifest's variables, and `warn` for one line to the operator.

    With `refuse_real_models`, addresses other than loopback raise `ModelUnavailable` (tests set it). `silence` is for how many
    seconds the provider's server may send nothing before it is given up.
    """

    settings: Mapping[str, str]
    warn: Callable[[str], None]
    refuse_real_models: bool = False
    silence: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFactory:
    """A model provider that a plugin offers. With `provider=auto` the first factory whose required fields are set is used."""

    name: str
    summary: str
    create: Callable[[ProviderContext], Provider]
    manifest: Manifest = field(default_factory=Manifest)


# --- actions --------------------------------------------------------------------------------------------------------------


class ActionHost(Protocol):
    """What an action may do on the host, bounded by who called it.

    With the same `ActionCall.key`, something is queued once however often it is called: of a call that speaks twice, the first
    counts. `to` names a destination; None is the chat that the turn answers. Each method raises `ActionRefused` where that
    cannot be, with the reason, and what would be possible: no such destination, or a platform that cannot do this.
    """

    async def send(self, text: str, to: str | None = None, *, files: Sequence[OutboundFile] = ()) -> Sent:
        """Queue `text`, perhaps with files: those that the agent handed over, or the action's own, which are copied."""

    async def edit(self, message_id: str, text: str) -> Sent:
        """Queue another text for a message that an action has sent: `message_id` is its `Sent.id`."""

    async def react(self, message_id: str, emoji: str) -> str:
        """Queue an emoji for a message that the agent heard, whose id stood in the prompt; return the destination's name.

        It takes the place of the one before; '' takes that away.
        """

    async def ask(self, question: str, choices: Sequence[str], to: str | None = None) -> Sent:
        """Queue a question with buttons, 2 to 10 labels of at most 60 characters; the answer comes as a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionCall:
    """One call of an action by an agent. `key` is the same when the agent's engine repeats the call after a crash."""

    agent_group: AgentGroup
    session_id: str
    key: str
    host: ActionHost


P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action(Generic[P]):
    """Something that an agent may ask of the host.

    `parameters` is a dataclass; its JSON Schema is what the agent sees (a field's help comes from
    `typing.Annotated[..., msgspec.Meta(description=...)]`). A field of the type `UploadedFile`, or of a tuple of them, is a
    file: the agent gives a path in its container, the handler gets the host's copy. `handler` returns the text that the agent
    reads.

    Each call is carried out once: what repeats it gets the outcome of the first time. When the host dies in the handler, the
    agent is told that nobody knows whether it had an effect, unless the action is `idempotent`: then the handler runs again,
    with the same `ActionCall.key`, and must not do twice what it has done. One that only reads or queues (`ActionHost`) is.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class RollDice:
    ...     sides: int = 6
    >>> async def roll(call, parameters):
    ...     return f"You rolled a {random.randint(1, parameters.sides)}."
    >>> Action(name="roll_dice", description="Roll one die.", parameters=RollDice, handler=roll).name
    'roll_dice'
    """

    name: str
    description: str
    parameters: type[P]
    handler: Callable[[ActionCall, P], Awaitable[str]]
    idempotent: bool = False


# --- container runtimes ---------------------------------------------------------------------------------------------------


class Runtime(Protocol):
    """Something that runs containers, always with the hardening that `ContainerSpec` promises.

    Every method raises `RuntimeUnavailable` when the runtime itself does not answer within its time limit.
    """

    async def check(self) -> str:
        """Return the runtime's name and version, as one line."""

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        """Start a container, write `first_line` to its standard input and close that; return the container's id.

        When this is cancelled, the container may be there or not, now or soon.

        Raises:
            ContainerFailed: nothing is left behind.
        """

    async def stop(self, container_id: str, grace: float) -> None:
        """Ask it to end, also when it is paused, kill it after `grace` seconds. A container that is gone already is fine."""

    async def remove(self, container_id: str) -> None:
        """Remove an ended container. One that is gone already is fine."""

    async def containers(self, labels: Mapping[str, str]) -> list[ContainerState]:
        """All containers, running or ended, that carry all of `labels`."""

    async def output(self, container_id: str, limit: int) -> bytes:
        """The last `limit` bytes of what the container wrote."""

    def watch(self, labels: Mapping[str, str]) -> AsyncIterator[ContainerState | None]:
        """Yield every container with `labels` that ends, as it ends; never polls.

        Yields None first, and again whenever events may have been missed: the reader then compares with `containers`. Raises
        `RuntimeUnavailable` when the connection is lost; the reader calls again.
        """

    async def has_image(self, tag: str) -> bool:
        """Whether the image is there."""

    async def build_image(self, context: BuildContext, report: Callable[[str], None]) -> None:
        """Build an image; `report` gets each line of the build's output.

        Raises:
            ImageBuildFailed: with the last line that says why.
        """

    async def import_image(self, tag: str, archive: str) -> None:
        """Make an image out of a tar archive of a root file system on the host's disk."""


@runtime_checkable
class PausingRuntime(Protocol):
    """A runtime that can freeze a container: it keeps its memory and its open connections, and uses no core."""

    async def pause(self, container_id: str) -> None:
        """Freeze all of its processes. One that is paused or gone already is fine.

        Raises:
            ContainerFailed: this runtime cannot; the container goes on.
        """

    async def resume(self, container_id: str) -> None:
        """Let it go on. One that is not paused, or gone, is fine.

        Raises:
            ContainerFailed: it is frozen still.
        """


@runtime_checkable
class MeasuringRuntime(Protocol):
    """A runtime that knows how much memory a container uses."""

    async def memory(self, container_id: str) -> int:
        """The bytes that it holds at this moment, without copies of files, which can be dropped; 0 for one that is gone."""


@runtime_checkable
class ReadingRuntime(Runtime, Protocol):
    """A runtime whose containers can be read from: for a backup of what only containers open."""

    def read(self, spec: ContainerSpec) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run a container without any input, and hand over what it writes to its standard output, as it comes.

        None of that is kept. The container is removed at the end of the block.

        Raises:
            ContainerFailed: it cannot be started; or, where its output ends, that it failed, and why.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFactory:
    """A container runtime that a plugin offers."""

    name: str
    summary: str
    create: Callable[[], Runtime]


# --- checks ---------------------------------------------------------------------------------------------------------------


class CheckStatus(StrEnum):
    """How a line of `nanoclaw doctor` stands: a warning can wait, a failure cannot."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One line of `nanoclaw doctor`: how `name` stands, in one sentence, and in `fix` what a person types or does about it.

    `mend` does that itself (`nanoclaw doctor --fix`) and returns what it did. It is there only where that is safe: nothing
    that anybody made is lost, nothing that is not NanoClaw's own is touched.
    """

    name: str
    status: CheckStatus
    reason: str
    fix: str = ""
    mend: Callable[[], Awaitable[str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """What a check may look at. Most of it is the same whether a host runs or not.

    `variables` is everything that is set in the environment and in .env: secrets among it, so no reason may show a value.
    `fields` are what the plugins' manifests ask for, `channels` the manifests of the channels by name.
    `host` is what `nanoclaw status --json` prints, or None when no host answers. `runtime` and `provider` make the ones that
    are set, at the first call, and raise `NanoClawError` where that cannot be.
    """

    home: Path
    variables: Mapping[str, str]
    plugins: Sequence[PluginStatus]
    fields: Sequence[SetupField]
    host: Mapping[str, Any] | None  # Any: JSON
    runtime: Callable[[], Runtime]
    provider: Callable[[], Provider]
    clock: Clock
    channels: Mapping[str, Manifest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A subject of `nanoclaw doctor`: `run` yields its lines one by one.

    It changes nothing, blocks nothing, and runs beside other checks. After `time_limit` seconds it is cut; what it raises
    becomes its line.

    >>> async def look_into_the_cage(context):
    ...     is_there = context.variables.get("PARROT_CAGE", "") != ""
    ...     yield CheckResult(name="cage", status=CheckStatus.OK if is_there else CheckStatus.WARN, reason="…")
    >>> Check(name="cage", run=look_into_the_cage).time_limit
    20.0
    """

    name: str
    run: Callable[[CheckContext], AsyncIterator[CheckResult]]
    time_limit: float = 20.0


# --- mounts ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPolicy:
    """A say in which folders of the owner's an agent may see: every policy must allow a mount, any may refuse or narrow it.

    `judge` returns at once and does not look at what lies at the path: the request says what was found there. It is called in a
    thread, and says the same of the same request until its own configuration changes. A path may hold anything that a file
    system allows. A policy that raises refuses.

    >>> def no_keys(request):
    ...     if ".ssh" in request.source.parts:
    ...         return MountVerdict(decision=MountDecision.REFUSE, reason="keys live there")
    ...     return MountVerdict(decision=MountDecision.ALLOW)
    >>> MountPolicy(name="no-keys", summary="Hides ~/.ssh", judge=no_keys).name
    'no-keys'
    """

    name: str
    summary: str
    judge: Callable[[MountRequest], MountVerdict]


# --- between the gateway and the workers ----------------------------------------------------------------------------------


class WorkerLink(Protocol):
    """The host's end of the connection to one worker's runner. Sending on a broken link does nothing: see `WorkerEvents`."""

    async def push(self, push: Push) -> None:
        """Hand `push` to the engine; the same uuid again is harmless."""

    async def interrupt(self) -> None:
        """Stop the running turn; its `TurnEnd` says so."""

    async def shutdown(self) -> None:
        """Ask the runner to end."""


class WorkerEvents(Protocol):
    """What a worker's runner reports, called in the order in which it happened."""

    async def connected(self, worker_id: str, link: WorkerLink) -> None:
        """A runner proved that it is this worker. It may be one that was connected before."""

    async def disconnected(self, worker_id: str) -> None:
        """The link broke; the container may be alive."""

    async def turn_ended(self, worker_id: str, end: TurnEnd) -> None:
        """Store the end of a turn durably; it is acknowledged to the runner when this returns, and comes again until then."""

    async def progressed(self, worker_id: str, progress: Progress) -> None:
        """The engine does something."""

    async def previewed(self, worker_id: str, text: str) -> None:
        """The engine has written `text` of its answer so far; nobody waits for what comes of that."""

    async def failed(self, worker_id: str, detail: str) -> None:
        """The engine is dead, or the runner broke the protocol: this worker must be ended. May be called more than once."""


class WorkerDoors(Protocol):
    """Where workers reach the host: one directory of sockets for each of them."""

    async def open(self, identity: WorkerIdentity) -> Path:
        """Listen for this worker; return the directory to be mounted at /nanoclaw/sockets."""

    async def close(self, worker_id: str) -> None:
        """Stop listening, break its connections, remove the directory. A worker that is unknown is fine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an agent hears of its call: the result, or why there is none."""

    text: str
    is_error: bool = False


class ActionCalls(Protocol):
    """Sees to it that a call is carried out once, whatever dies in between: its worker, its engine, this host."""

    async def once(
        self,
        identity: WorkerIdentity,
        action: Action[Any],  # Any: each action has parameters of its own
        key: str,
        arguments: str,
        carry_out: Callable[[ActionCall], Awaitable[Outcome]],
    ) -> Outcome:
        """The stored outcome of the call `key`, else that of `carry_out`, stored before this returns.

        A call of another key is the same call, once, when a worker before this one made it in the same turn with the same
        `arguments` (JSON with sorted keys), and its result was not `heard`.

        Raises:
            NanoClawError: the key belongs to another call, or the call or its outcome cannot be stored.
        """

    async def unheard(self, identity: WorkerIdentity) -> set[str]:
        """The keys of calls that may be made again: the engine of this worker is not known to have their results."""

    async def heard(self, identity: WorkerIdentity, keys: Collection[str]) -> None:
        """The conversation of this worker's engine holds the results of these calls."""

    async def outbox(self, identity: WorkerIdentity, *, more: bool = False) -> Path:
        """The folder for what this worker's agent hands to actions; nobody but the host sees it.

        Raises:
            NanoClawError: the worker is at its end; or the disk has no room for `more`.
        """

    async def release(self, identity: WorkerIdentity, uploads: Collection[str]) -> None:
        """A call has ended: delete those of its files in the outbox that nothing sends."""


class Dialogue(Protocol):
    """How rows become a prompt, and an agent's text becomes words for people."""

    async def instructions(self, agent_group: AgentGroup) -> str:
        """What the engine's system prompt says about this agent."""

    async def reminder(self, agent_group: AgentGroup, earlier: Sequence[EarlierCall]) -> str:
        """What an engine is told that takes up a turn in which these calls were made."""

    async def prompt(self, agent_group: AgentGroup, rows: Sequence[Row], undelivered: Sequence[Undelivered] = ()) -> str:
        """One prompt for `rows`, which are all of one address; it says first what could not be delivered."""

    async def answers(self, agent_group: AgentGroup, reply_to: Address, text: str) -> list[Words]:
        """What is to be said when a turn that answers `reply_to` ended with `text`; nothing meant for people is lost."""

    async def name(self, agent_group: AgentGroup, to: Address) -> str | None:
        """What the agent calls this chat; None where it may not write."""

    async def find(self, agent_group: AgentGroup, name: str) -> Address:
        """The destination that the agent calls `name`.

        Raises:
            ActionRefused: there is none; the text lists those there are.
        """

    async def beginning(self, agent_group: AgentGroup, reply_to: Address, text: str) -> str:
        """What of the first answer to `reply_to` is certain while only `text` of it is written; '' if nothing is."""

    def visible(self, text: str) -> str:
        """`text` without what an agent marked as internal."""


Wake = Callable[[str], None]
"""Tells a neighbour that there is work for a session id. Never blocks, may be called too often."""


class Clock(Protocol):
    """Time, so that tests can hold it."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds since some moment, never going back."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
