"""Every error that NanoClaw raises on purpose, split by what the caller does next.

    NanoClawError
    ├── SettingInvalid          fix the setting
    ├── ValueRefused            give another value
    ├── CredentialRefused       get another credential from the platform
    ├── HomeUnusable            fix the folder
    ├── HostRunning             another host owns this home
    ├── HostNotRunning          start the host
    ├── DatabaseTaken           stop the other host, or leave it the database
    ├── DatabaseTooNew          install the version that wrote it
    ├── DatabaseBroken          restore a backup
    ├── BackupFailed            make room, or write it elsewhere
    ├── BackupUnusable          take another backup
    ├── BackupTooNew            install the version that wrote it
    ├── DiskLow                 wait for room on the disk, or make some
    ├── WorkspaceFull           make room in the agent's folder, or raise the limit
    ├── MountRefused            mount something else, or change the rules
    ├── UnknownName             choose one of the names that exist
    ├── DuplicateName           disable one of the two plugins
    ├── PluginUnusable          the plugin is left out, the rest goes on
    ├── InstallRefused          choose plugins that fit; nothing was changed
    ├── InstallFailed           the plugins are as they were, or `rollback`
    ├── PackageNotMade          choose another name or place for the new plugin
    ├── InvalidPattern          correct the engage pattern
    ├── MessageTooLong          send it as a file
    ├── RuntimeUnavailable      wait for the container runtime, or start it
    ├── ContainerFailed         this worker is lost, another may start
    ├── ImageBuildFailed        mend the build
    ├── ModelUnavailable        the provider cannot be asked at all
    ├── ActionRefused           tell the agent why
    ├── ProtocolViolation       close the link of that worker
    ├── ChannelRevoked          set the channel up again
    └── DeliveryError           raised by channels
        ├── TryLater            send again after a pause
        ├── Refused             never send this again, tell the people concerned
        ├── ChatMoved           send it to the chat's new id
        └── OutcomeUnknown      it may have been sent: ask before repeating

Each class knows the exit code of the command line (`exit_code`) and composes its own message, which always ends with what
to do. The exit codes are part of the public interface: 1 a bug or an unnamed failure, 2 wrong use, 3 configuration,
4 container runtime or image, 5 host not running or already running, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable


class NanoClawError(Exception):
    """The root of all errors that are worth showing to a person as one line."""

    exit_code = 1


class SettingInvalid(NanoClawError):
    """A setting does not hold what it must.

    >>> print(SettingInvalid("NANOCLAW_MAX_TURNS", "0", "a whole number from 1 to 64"))
    NANOCLAW_MAX_TURNS is '0', but must be a whole number from 1 to 64. Correct it in the environment or in .env.
    """

    exit_code = 3

    def __init__(self, name: str, value: object, rule: str) -> None:
        super().__init__(f"{name} is {value!r}, but must be {rule}. Correct it in the environment or in .env.")
        self.name = name


class ValueRefused(NanoClawError):
    """A value that a person gave for a variable, or the variable's name, cannot be used. The reason shows no value.

    >>> print(ValueRefused("TELEGRAM_TOKEN", "it is empty"))
    TELEGRAM_TOKEN is not accepted: it is empty. Nothing was stored.
    """

    exit_code = 3

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is not accepted: {reason}. Nothing was stored.")
        self.reason = reason


class CredentialRefused(NanoClawError):
    """The platform was asked and does not accept the credential; where it cannot be asked, any other error says so."""

    exit_code = 3


class HomeUnusable(NanoClawError):
    """The folder that holds all state cannot be used."""

    exit_code = 3

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"The home folder {path} cannot be used: {reason}. Mend that, or set NANOCLAW_HOME to another folder.")


class HostRunning(NanoClawError):
    """Another host has this home open. `pid` is 0 where it is not known, just after that host's start."""

    exit_code = 5

    def __init__(self, home: object, pid: int) -> None:
        who = f" (pid {pid})" if pid else ""
        super().__init__(f"A host already runs on {home}{who}. Use it: `nanoclaw chat`. Or stop it: `nanoclaw stop`.")
        self.pid = pid


class HostNotRunning(NanoClawError):
    """Nobody answers on the control socket."""

    exit_code = 5

    def __init__(self, home: object) -> None:
        super().__init__(f"No host runs on {home}. Start one with `nanoclaw serve`, or just use `nanoclaw chat`.")


class DatabaseTaken(NanoClawError):
    """Another process writes to the database, so this one must not. `by` is '' where it is not known."""

    exit_code = 5

    def __init__(self, database: object, by: str) -> None:
        super().__init__(
            f"Another host{by and f' ({by})'} has the database {database}. This one writes nothing more and ends. "
            "Stop the other one before you start it again."
        )
        self.by = by


class DatabaseTooNew(NanoClawError):
    """The database was written by a later version of NanoClaw: `version`, where the database says so.

    `copy` is the one that was made before that version changed it, if there is one.
    """

    exit_code = 3

    def __init__(self, path: object, revision: str, version: str | None = None, copy: object = None) -> None:
        who = f"NanoClaw {version}" if version else "a newer NanoClaw"
        wanted = f'"nanoclaw-core>={version}"' if version else "--upgrade nanoclaw-core"
        advice = f"Install that version again: `pip install {wanted}`"
        if copy is not None:
            advice += f". To go back instead, and lose what came since, put {copy} in its place"
        super().__init__(
            f"The database {path} was written by {who} (schema {revision}), which this version cannot read. {advice}."
        )


class DatabaseBroken(NanoClawError):
    """The central database is damaged, or is none; nothing of it was changed."""

    exit_code = 3

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(
            f"The database {path} is damaged ({reason}); nothing was changed. Restore a backup: `nanoclaw backup restore FILE "
            "--replace`, which keeps what is there beside it. Without one, move the database and the files beside it away: the "
            "next start begins anew, with the agents' folders as they are."
        )
        self.reason = reason


class BackupFailed(NanoClawError):
    """A backup could not be written; nothing of it is left."""

    exit_code = 3

    def __init__(self, target: object, reason: str) -> None:
        super().__init__(
            f"The backup {target} could not be made: {reason}. Nothing of it is left; mend that, or write it to another place."
        )


class BackupUnusable(NanoClawError):
    """A file that is no backup, or not all of one, or that holds what none may hold."""

    exit_code = 3

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(
            f"The backup {path} cannot be used: {reason}. Take another one, or make one: `nanoclaw backup create`."
        )
        self.reason = reason


class BackupTooNew(NanoClawError):
    """A backup that a later version of NanoClaw made."""

    exit_code = 3

    def __init__(self, path: object, version: str) -> None:
        super().__init__(
            f"The backup {path} was made by NanoClaw {version}, and this version cannot read it. "
            f'Install that one: `pip install "nanoclaw-core>={version}"`.'
        )


class DiskLow(NanoClawError):
    """Too little room on the disk of the home to begin a turn (in MiB)."""

    exit_code = 3

    def __init__(self, path: object, free: int, least: int) -> None:
        super().__init__(
            f"The disk of {path} has {free:,} MiB left, and a turn is begun with {least:,} at least. Make room on it; "
            "NANOCLAW_MIN_FREE_DISK sets how much."
        )


class WorkspaceFull(NanoClawError):
    """The folder of an agent holds more than it may (in MiB)."""

    exit_code = 3

    def __init__(self, agent: str, folder: object, used: int, most: int) -> None:
        super().__init__(
            f"The folder of {agent} holds {used:,} MiB, and {most:,} are allowed. Delete something in {folder}; "
            "NANOCLAW_MAX_WORKSPACE sets how much."
        )


class MountRefused(NanoClawError):
    """A folder or file of the owner's that an agent may not see.

    >>> print(MountRefused("/proc", "it belongs to the system"))
    /proc cannot be mounted: it belongs to the system.
    """

    exit_code = 3

    def __init__(self, path: object, reason: str) -> None:
        said = str(path) if str(path).isprintable() else repr(str(path))
        super().__init__(f"{said} cannot be mounted: {reason}.")
        self.reason = reason


class UnknownName(NanoClawError):
    """A configured or typed name that nothing carries.

    >>> print(UnknownName("provider", "gpt", ["anthropic", "demo"]))
    There is no provider named 'gpt'. Known: anthropic, demo.
    """

    exit_code = 3

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"There is no {kind} named {name!r}. Known: {names}.")


class DuplicateName(NanoClawError):
    """Two plugins offer the same name; neither wins silently.

    >>> print(DuplicateName("channel", "telegram", "nanoclaw-telegram 0.1.0", "my-telegram 2.0"))
    Both nanoclaw-telegram 0.1.0 and my-telegram 2.0 offer the channel 'telegram': `nanoclaw plugin disable` one of them.
    """

    exit_code = 3

    def __init__(self, kind: str, name: str, first: str, second: str) -> None:
        super().__init__(f"Both {first} and {second} offer the {kind} {name!r}: `nanoclaw plugin disable` one of them.")


class PluginUnusable(NanoClawError):
    """A plugin that cannot be loaded, with the reason that `nanoclaw plugin list` shows."""

    exit_code = 3

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(f"The plugin {plugin} was left out: {reason}")
        self.plugin = plugin
        self.reason = reason


class InstallRefused(NanoClawError):
    """The plugins cannot be changed as asked: `reason` says why, and what to do."""

    exit_code = 3

    def __init__(self, reason: str) -> None:
        super().__init__(f"Nothing was changed: {reason.rstrip('.')}.")
        self.reason = reason


class InstallFailed(NanoClawError):
    """A change of the plugins failed half-way. `trouble` is why what was there could not be put back, '' where it was."""

    exit_code = 3

    def __init__(self, what: str, reason: str, trouble: str = "") -> None:
        end = (
            f"It could not be put back either: {trouble}. `nanoclaw plugin rollback` tries again."
            if trouble
            else ("What was there before was put back.")
        )
        super().__init__(f"The plugins could not be changed ({what}): {reason.rstrip('.')}. {end}")


class PackageNotMade(NanoClawError):
    """A new plugin that was not written; nothing is left of it.

    >>> print(PackageNotMade("pigeon", "nanoclaw-pigeon is there already. Choose another name"))
    The plugin 'pigeon' was not made: nanoclaw-pigeon is there already. Choose another name.
    """

    exit_code = 3

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The plugin {name!r} was not made: {reason}.")


class InvalidPattern(NanoClawError):
    """An engage pattern that is no regular expression."""

    exit_code = 3

    def __init__(self, pattern: str, reason: str) -> None:
        super().__init__(f"The engage pattern {pattern!r} is no regular expression: {reason}. Use '.' to answer everything.")


class MessageTooLong(NanoClawError):
    """A message beyond what is accepted at all (lengths in bytes of UTF-8)."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"This message is {length:,} bytes long; at most {limit:,} are accepted. Send it in parts.")


class RuntimeUnavailable(NanoClawError):
    """The container runtime does not answer; everything that needs it waits."""

    exit_code = 4

    def __init__(self, runtime: str, reason: str, advice: str = "Start it; NanoClaw goes on by itself.") -> None:
        super().__init__(f"The container runtime {runtime} does not answer: {reason}. {advice}")
        self.runtime = runtime
        self.reason = reason
        self.advice = advice


class ContainerFailed(NanoClawError):
    """The runtime answers, but this container cannot be made, started or reached."""

    exit_code = 4

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The container {name} failed: {reason}")


class ImageBuildFailed(NanoClawError):
    """The worker image could not be built."""

    exit_code = 4

    def __init__(self, tag: str, reason: str) -> None:
        super().__init__(f"The image {tag} could not be built: {reason}. Try `nanoclaw image build` to see the whole output.")
        self.reason = reason


class ModelUnavailable(NanoClawError):
    """The model provider cannot be asked: no connection, no answer in time, or refused by a setting.

    The model proxy answers the worker with `status`; `retry` says whether Claude Code may try the same request again.
    """

    def __init__(self, reason: str, *, status: int = 502, retry: bool = True) -> None:
        super().__init__(reason)
        self.status = status
        self.retry = retry


class ActionRefused(NanoClawError):
    """An action that was understood and not done; the agent reads the reason as the tool's error."""


class ProtocolViolation(NanoClawError):
    """A worker sent what `container/PROTOCOL.md` does not allow."""


class ChannelRevoked(NanoClawError):
    """The platform takes the channel's credential no more, so trying again cannot help.

    >>> print(ChannelRevoked("telegram", "the bot's token was revoked"))
    The channel telegram is off: the bot's token was revoked. Set it up again: `nanoclaw channel setup telegram`.
    """

    exit_code = 3

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(f"The channel {channel} is off: {reason}. Set it up again: `nanoclaw channel setup {channel}`.")


class DeliveryError(NanoClawError):
    """The root of what `Channel.send` may raise."""


class TryLater(DeliveryError):
    """Not sent; worth another try.

    `after` is the pause in seconds that the platform asked for, or None for NanoClaw's own growing pauses.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Refused(DeliveryError):
    """Not sent, and trying again cannot help (blocked, chat gone, content rejected)."""


class ChatMoved(DeliveryError):
    """Not sent: the platform calls the chat `chat` now, for good."""

    def __init__(self, chat: str) -> None:
        super().__init__(f"the chat is called {chat} now")
        self.chat = chat


class OutcomeUnknown(DeliveryError):
    """The connection broke while sending: the platform may or may not have taken it."""
