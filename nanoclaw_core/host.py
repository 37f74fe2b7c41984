"""The composition root: builds every part of the host, joins them, and runs them in one task group."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import anyio
import structlog
from anyio import to_thread
from anyio.abc import TaskStatus

from nanoclaw_core import __version__, memory, secrets
from nanoclaw_core.builtins.terminal import NAME as TERMINAL
from nanoclaw_core.builtins.terminal import TerminalChannel, Working
from nanoclaw_core.delivery.previews import Previews
from nanoclaw_core.delivery.queue import Delivery
from nanoclaw_core.disk import DiskGuard
from nanoclaw_core.errors import ChannelRevoked, HomeUnusable, NanoClawError, UnknownName
from nanoclaw_core.first_start import ensure_first_agent, ensure_terminal_chat
from nanoclaw_core.gateway.parameters import file_rules
from nanoclaw_core.gateway.server import Gateway
from nanoclaw_core.home import own_home
from nanoclaw_core.installed import enabled
from nanoclaw_core.journal import Journal
from nanoclaw_core.ledger.books import Ledger
from nanoclaw_core.ledger.prices import Prices
from nanoclaw_core.ledger.words import statements
from nanoclaw_core.loopwatch import Block, LoopWatch
from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.mask import Mask
from nanoclaw_core.models import Address, AgentGroup, Event, InboundMessage, Limits
from nanoclaw_core.offers import Model, choose_model, make_channels
from nanoclaw_core.operations import Operation, operations
from nanoclaw_core.packages.notice import keep_up
from nanoclaw_core.pairing import Pairings
from nanoclaw_core.plugins import Plugins, load, log_call
from nanoclaw_core.ports import Action, Channel, ChannelContext, Clock, ClosingProvider, Runtime
from nanoclaw_core.retention import Retention
from nanoclaw_core.routing.arrivals import Arrivals
from nanoclaw_core.routing.dialogue import AgentDialogue
from nanoclaw_core.routing.recovery import Recovery
from nanoclaw_core.routing.router import Router
from nanoclaw_core.sandbox.image import WorkerImage
from nanoclaw_core.sandbox.mounts import MountRules
from nanoclaw_core.sandbox.quota import Quota
from nanoclaw_core.sandbox.spec import worker_user
from nanoclaw_core.settings import Settings
from nanoclaw_core.store import agents, chats
from nanoclaw_core.store.database import Database, open_database
from nanoclaw_core.store.installation import installation_id
from nanoclaw_core.supervise import Health, SystemClock, supervise
from nanoclaw_core.workers.desk import Desk, Terms
from nanoclaw_core.workers.diary import Diary
from nanoclaw_core.workers.folders import Folders
from nanoclaw_core.workers.pool import Pool

log = structlog.get_logger()

BUILTINS = tuple(
    f"nanoclaw_core.builtins.{name}"
    for name in ("docker_runtime", "anthropic", "demo", "messaging", "terminal", "event_log", "mount_allowlist", "checks")
)
_MIB = 1024 * 1024
_WORKER_TMP = 512 * _MIB
_SPARE_MEMORY = 256 * _MIB  # that other programs of the machine are left


@asynccontextmanager
async def open_host(
    settings: Settings,
    *,
    clock: Clock | None = None,
    runtime: Runtime | None = None,
    builtins: Sequence[str] = BUILTINS,
    mask: Mask | None = None,
    watch: LoopWatch | None = None,
) -> AsyncIterator[Host]:
    """Own the home and build a host that `run` sets going. Tests hand in their own clock, runtime and built-in modules.

    `mask` is told every secret that the host gets to know, `watch` which plugins could hold up its loop.

    Raises:
        HostRunning, HomeUnusable, DatabaseTooNew, UnknownName, SettingInvalid: it cannot be built as set.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        stack.enter_context(own_home(settings.home))
        for path in await to_thread.run_sync(secrets.mend, settings.home):
            log.warning("secrets.mended", path=str(path))
        trace = log_call if settings.trace_plugins else None
        plugins = await to_thread.run_sync(load, enabled(settings.home), builtins, trace)
        await to_thread.run_sync(_note_packages, settings, plugins, clock.time())
        mask = mask or Mask()
        mask.add(settings.secrets(plugins.fields()))
        if runtime is None:
            runtime = await to_thread.run_sync(plugins.choose("runtime", settings.runtime).create)
        path, backups = settings.home / "nanoclaw.db", settings.home / "backups"
        database = await stack.enter_async_context(open_database(path, backups=backups))
        installation = await database.write(installation_id)
        await database.write(partial(ensure_first_agent, name=settings.assistant_name, now=clock.time()))
        model = choose_model(settings, plugins)
        host = Host(settings, plugins, database, model, runtime, clock, installation, mask)
        stack.push_async_callback(host.mailboxes.close)
        if isinstance(model.provider, ClosingProvider):
            stack.push_async_callback(model.provider.aclose)
        await host.make_channels()
        await host.pairings.load()
        await stack.enter_async_context(host.ledger)
        await stack.enter_async_context(host.gateway)
        if watch is not None:
            watch.know(plugins.modules())
            host.blocks = watch.found
        yield host


def _note_packages(settings: Settings, plugins: Plugins, now: float) -> None:
    """Record which packages the plugins consist of, where that has changed since the last start; no reason not to start."""
    try:
        for change in keep_up(settings.home, plugins.remains(), now):
            log.warning("plugins.changed_outside", change=change)
    except HomeUnusable as error:
        log.warning("plugins.lock_unusable", reason=str(error))


class Host:
    """All parts of a host, joined. `run` does everything; the rest is what the control socket asks."""

    def __init__(
        self,
        settings: Settings,
        plugins: Plugins,
        database: Database,
        model: Model,
        runtime: Runtime,
        clock: Clock,
        installation: str,
        mask: Mask,
    ) -> None:
        self.settings, self.plugins, self.database, self.clock = settings, plugins, database, clock
        self.channels: dict[str, Channel] = {}
        self.healths: dict[str, Health] = {}
        self.blocks: Collection[Block] = ()
        self.mailboxes = Mailboxes(settings.home, now=clock.time)
        self.delivery = Delivery(database, self.mailboxes, self.channels, clock, plugins.tell, self._moved)
        self.diary = Diary(self.mailboxes)
        actions = [offer.value for offer in plugins.actions().values()]
        self.folders = Folders(
            database=database,
            rules=MountRules(home=settings.home, judge=plugins.mount_verdicts, user=worker_user(installation)),
            clock=clock,
            tell=partial(self._tell_owner, about=Address(channel="", chat="")),
            renew=lambda agent: self.pool.renew(agent),
        )
        self.pool = Pool(self._desk(runtime, installation, mask, actions))
        self.ledger = self._ledger(is_demo=model.is_demo)
        calls = self.pool.actions
        self.gateway = Gateway(settings.home / "workers", self.pool, model.provider, actions, calls, ledger=self.ledger)
        self.journal = Journal(database, clock)
        self.router = self._router()
        self.pairings = Pairings(database, clock, self.delivery.say, self._tell_owner, plugins.tell)
        self.operations: Mapping[str, Operation] = operations(
            database, clock, self.pairings.begin, self.folders, settings.timezone
        )
        self._mask = mask
        self.mailboxes.renew = self._recovery().renew  # bound late: it wakes those who use the mailboxes
        self._image = WorkerImage.of(settings, runtime)
        self._image_state, self._image_tag = "not asked yet", ""
        self.retention = Retention(
            database=database, mailboxes=self.mailboxes, home=settings.home, clock=clock, days=settings.history_days
        )
        self._model = model
        self._began = clock.monotonic()

    def _desk(self, runtime: Runtime, installation: str, mask: Mask, actions: Sequence[Action[Any]]) -> Desk:
        previews = Previews(self.channels)
        return Desk(
            terms=terms(self.settings, installation),
            database=self.database,
            mailboxes=self.mailboxes,
            runtime=runtime,
            doors=lambda: self.gateway,
            dialogue=AgentDialogue(self.database, self.settings.timezone),
            clock=self.clock,
            image=self.ensure_image,
            require_room=DiskGuard(home=self.settings.home, least=self.settings.min_free_disk).check,
            has_room=partial(memory.has_room, spare=_SPARE_MEMORY),
            deliver=self.delivery.wake,
            say=self.delivery.say,
            typing=self.delivery.typing,
            streams=previews.streams,
            preview=previews.show,
            tell=self.plugins.tell,
            note_tool=self.diary.note_tool,
            hide=mask.add_passing,
            channels=self.channels,
            file_rules=file_rules(actions),
            folders=self.folders.grant,
            require_quota=Quota(home=self.settings.home, most=self.settings.max_workspace, now=self.clock.monotonic).check,
        )

    def _ledger(self, *, is_demo: bool) -> Ledger:
        tell_owner = partial(self.delivery.tell_owner, away_from=Address(channel="", chat=""))
        prices, zone = Prices(self.settings.home), self.settings.timezone
        return Ledger(self.database, prices, self.clock, zone, tell_owner, self.plugins.tell, is_demo=is_demo)

    def _router(self) -> Router:
        return Router(
            database=self.database,
            journal=self.journal,
            mailboxes=self.mailboxes,
            home=self.settings.home,
            clock=self.clock,
            wake=self.pool.wake,
            stop=self.pool.stop,
            refuse=self.delivery.refuse,
            tell_usage=self._tell_usage,
            answered=self.delivery.answered,
            arrivals=self._arrivals(),
            tell=self.plugins.tell,
        )

    async def _tell_usage(self, to: Address, message_id: str, agent_groups: Sequence[str]) -> None:
        """Answer `/usage` in a chat."""
        read = partial(statements, agent_groups=agent_groups, now=self.clock.time(), timezone=self.settings.timezone)
        text = "\n\n".join(await self.database.read(read))
        await self.delivery.refuse(to, message_id, text, outcome="answered")

    def _arrivals(self) -> Arrivals:
        return Arrivals(
            folder=self.settings.home / "arrivals",
            channels=self.channels,
            clock=self.clock,
            limit=self.settings.max_file * _MIB,
            require_room=DiskGuard(home=self.settings.home, least=self.settings.min_free_disk).check,
            released=self.journal.look_again,
        )

    def _recovery(self) -> Recovery:
        return Recovery(
            database=self.database,
            journal=self.journal,
            home=self.settings.home,
            clock=self.clock,
            wake=self.pool.wake,
            deliver=self.delivery.wake,
        )

    async def make_channels(self) -> None:
        """Make the channels; called once, before `run`."""
        made, healths = await make_channels(self.settings, self.plugins, self.clock, self._context)
        self.channels.update(made)
        self.healths.update(healths)

    def _context(self, channel: str, settings: Mapping[str, str]) -> ChannelContext:
        return ChannelContext(
            settings=settings,
            wake=partial(self.delivery.wake_chat, channel),
            cursor=partial(self.journal.cursor, channel, ""),
            moved=lambda old, new: self._moved(Address(channel=channel, chat=old), new),
            clock=self.clock,
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Receive, route, work and deliver until cancelled.

        Raises:
            DatabaseTaken: in a group; another host has the database now, and the workers.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.database.lost, name="fence")
            parts = {
                "delivery": self.delivery.run,
                "workers": self.pool.run,
                "routing": self.router.run,
                "pairing": self.pairings.run,
                "diary": self.diary.run,
                "retention": self.retention.run,
            }
            for name, run in parts.items():
                tasks.start_soon(supervise, run, Health(name=name), self.clock, name=name)
            for name, channel in self.channels.items():
                tasks.start_soon(self._run_channel, name, channel, name=f"channel {name}")
            task_status.started()

    async def _run_channel(self, name: str, channel: Channel) -> None:
        async def attempt(task_status: TaskStatus[None]) -> None:
            await channel.run(self.receive, task_status=task_status)

        structlog.contextvars.bind_contextvars(component=f"channel {name}")  # whoever speaks in this task
        reason = await supervise(attempt, self.healths[name], self.clock, final=(ChannelRevoked,))
        await self.delivery.tell_owner(reason, away_from=Address(channel=name, chat=""))

    async def _tell_owner(self, text: str, about: Address) -> None:
        await self.delivery.tell_owner(text, away_from=about)

    async def _moved(self, chat: Address, new: str) -> None:
        """A platform calls a chat by another id now."""
        await self.database.write(partial(chats.move, address=chat, new=new, now=self.clock.time()))

    async def receive(self, message: InboundMessage, cursor: str | None = None) -> bool:
        """The `Receive` of every channel."""
        if await self.pairings.take(message, cursor):
            return True
        is_new = await self.journal.accept(message, cursor)
        data = {"channel": message.address.channel, "known": not is_new}
        self.plugins.tell(Event(name="message.accepted", at=self.clock.time(), data=data))
        return is_new

    # --- the image --------------------------------------------------------------------------------------------------------

    async def ensure_image(self) -> str:
        """The tag of the worker image, built first if it is missing; whoever is at a terminal sees how far it is."""
        self._image_state = "checking"
        try:
            self._image_tag = await self._image.ensure(self._image_progress)
        except NanoClawError as error:
            self._image_state = str(error)
            raise
        finally:
            self.terminal.announce(Working(note=""))
        self._image_state = "ready"
        return self._image_tag

    def _image_progress(self, line: str) -> None:
        self._image_state = "building"
        log.info("image.build", line=line)
        self.terminal.announce(Working(note=f"building the worker image: {line}"))

    # --- what the control socket asks -------------------------------------------------------------------------------------

    @property
    def terminal(self) -> TerminalChannel:
        channel = self.channels[TERMINAL]
        assert isinstance(channel, TerminalChannel)  # noqa: S101  # built in; nobody else can have the name
        return channel

    def greeting(self) -> list[str]:
        """What a person who opens a chat should know, a line each."""
        return list(self._model.notices)

    async def terminal_chat(self, agent: str | None) -> tuple[str, str]:
        """The name and the terminal's chat of the agent called `agent`, or of the main one; wired at the first use.

        Raises:
            UnknownName: there is no such agent.
        """
        found = await self.database.read(partial(_agent, name=agent))
        chat = await self.database.write(partial(ensure_terminal_chat, agent=found, now=self.clock.time()))
        return found.name, chat

    async def status(self) -> dict[str, Any]:
        """Everything that `nanoclaw status --json` prints, as JSON values."""
        groups = await self.database.read(agents.agent_groups)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": self.clock.monotonic() - self._began,
            "home": str(self.settings.home),
            "provider": {"name": self._model.name, "demo": self._model.is_demo},
            "image": {"name": self._image_tag or "worker image", "state": self._image_state},
            "channels": [asdict(health) | {"reason": self._mask(health.reason)} for health in self.healths.values()],
            "agents": [{"name": each.name, "folder": each.folder, "main": each.is_main} for each in groups],
            "plugins": [asdict(status) for status in self.plugins.statuses],
            "blocked": [asdict(block) for block in tuple(self.blocks)],
            **self.pool.status(),
        }


def terms(settings: Settings, installation: str) -> Terms:
    """How this host runs its workers."""
    return Terms(
        home=settings.home,
        installation=installation,
        user=worker_user(installation),
        runtime=settings.runtime,
        timezone=settings.timezone,
        engine=settings.engine,
        model=settings.model,
        limits=Limits(
            memory=settings.worker_memory * _MIB,
            cpus=settings.worker_cpus,
            pids=settings.worker_pids,
            tmp=_WORKER_TMP,
        ),
        max_turns=settings.max_turns,
        max_memory=settings.max_memory * _MIB or memory.total_bytes() // 2,
        start_timeout=settings.start_timeout,
        idle_timeout=settings.idle_timeout,
        starts_at_once=(os.cpu_count() or 1) + 1,
    )


def _agent(connection: Any, name: str | None) -> AgentGroup:
    found = agents.main_agent_group(connection) if name is None else agents.agent_group_named(connection, name)
    if found is None:
        raise UnknownName("agent", name or "main", [group.name for group in agents.agent_groups(connection)])
    return found
