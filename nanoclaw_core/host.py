"""The composition root: builds every part of the host, joins them, and runs them in one task group."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import anyio
import structlog
from anyio import to_thread
from anyio.abc import TaskStatus

from nanoclaw_core import __version__
from nanoclaw_core.builtins.terminal import NAME as TERMINAL
from nanoclaw_core.builtins.terminal import TerminalChannel, Working
from nanoclaw_core.delivery.queue import Delivery
from nanoclaw_core.errors import NanoClawError, UnknownName
from nanoclaw_core.first_start import ensure_first_agent, ensure_terminal_chat
from nanoclaw_core.gateway.server import Gateway
from nanoclaw_core.home import own_home
from nanoclaw_core.installed import enabled
from nanoclaw_core.journal import Journal
from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.models import AgentGroup, Event, InboundMessage, Limits, SetupField
from nanoclaw_core.plugins import Plugins, load, log_call
from nanoclaw_core.ports import (
    Channel,
    ChannelContext,
    ChannelFactory,
    Clock,
    ClosingProvider,
    Provider,
    ProviderContext,
    Runtime,
    Wake,
)
from nanoclaw_core.routing.dialogue import AgentDialogue
from nanoclaw_core.routing.router import Router
from nanoclaw_core.sandbox.image import WorkerImage, found_ca_bundle
from nanoclaw_core.sandbox.spec import worker_user
from nanoclaw_core.settings import Settings
from nanoclaw_core.store import agents
from nanoclaw_core.store.database import Database, open_database
from nanoclaw_core.store.installation import installation_id
from nanoclaw_core.supervise import Health, State, SystemClock, supervise, survive
from nanoclaw_core.workers.desk import Desk, Terms
from nanoclaw_core.workers.pool import Pool

log = structlog.get_logger()

BUILTINS = tuple(
    f"nanoclaw_core.builtins.{name}" for name in ("docker_runtime", "anthropic", "demo", "messaging", "terminal", "event_log")
)
DEMO = "demo"
_MIB = 1024 * 1024
_WORKER_TMP = 512 * _MIB


@asynccontextmanager
async def open_host(
    settings: Settings, *, clock: Clock | None = None, runtime: Runtime | None = None, builtins: Sequence[str] = BUILTINS
) -> AsyncIterator[Host]:
    """Own the home and build a host that `run` sets going. Tests hand in their own clock, runtime and built-in modules.

    Raises:
        HostRunning, HomeUnusable, DatabaseTooNew, UnknownName, SettingInvalid: it cannot be built as set.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(own_home(settings.home))
        trace = log_call if settings.trace_plugins else None
        plugins = await to_thread.run_sync(load, enabled(settings.home), builtins, trace)
        if runtime is None:
            runtime = await to_thread.run_sync(plugins.choose("runtime", settings.runtime).create)
        home = settings.home
        database = await stack.enter_async_context(open_database(home / "nanoclaw.db", backups=home / "backups"))
        host = await _Builder(settings, plugins, database, runtime, clock or SystemClock()).build()
        stack.push_async_callback(host.mailboxes.close)
        if isinstance(host.provider, ClosingProvider):
            stack.push_async_callback(host.provider.aclose)
        await stack.enter_async_context(host.gateway)
        yield host


class _Builder:
    """Makes the parts in the order in which they need each other; what points back is bound late, by closures."""

    def __init__(self, settings: Settings, plugins: Plugins, database: Database, runtime: Runtime, clock: Clock) -> None:
        self._settings = settings
        self._plugins = plugins
        self._database = database
        self._runtime = runtime
        self._clock = clock

    async def build(self) -> Host:
        settings, database, clock, tell = self._settings, self._database, self._clock, self._plugins.tell
        installation = await database.write(installation_id)
        await database.write(partial(ensure_first_agent, name=settings.assistant_name, now=clock.time()))
        notices: list[str] = []
        provider_name, provider = self._provider(notices.append)
        mailboxes = Mailboxes(settings.home, now=clock.time)
        channels, healths = await self._channels(lambda channel, chat: delivery.wake_chat(channel, chat))
        ca_bundle = settings.ca_bundle or found_ca_bundle(settings.variables)
        image = WorkerImage(self._runtime, base=settings.base_image, ca_bundle=ca_bundle)
        delivery = Delivery(database, mailboxes, channels, clock, tell)
        desk = Desk(
            terms=self._terms(installation),
            database=database,
            mailboxes=mailboxes,
            runtime=self._runtime,
            doors=lambda: gateway,
            dialogue=AgentDialogue(database, settings.timezone),
            clock=clock,
            image=lambda: host.ensure_image(),
            deliver=delivery.wake,
            say=delivery.say,
            typing=delivery.typing,
            tell=tell,
        )
        pool = Pool(desk)
        actions = [offer.value for offer in self._plugins.actions().values()]
        gateway = Gateway(settings.home / "workers", pool, provider, actions, pool.actions)
        journal = Journal(database, clock)
        router = Router(
            database=database,
            journal=journal,
            mailboxes=mailboxes,
            home=settings.home,
            clock=clock,
            wake=pool.wake,
            say=delivery.say,
            tell=tell,
        )
        host = Host(
            settings=settings,
            plugins=self._plugins,
            database=database,
            clock=clock,
            mailboxes=mailboxes,
            gateway=gateway,
            image=image,
            pool=pool,
            delivery=delivery,
            router=router,
            journal=journal,
            channels=channels,
            healths=healths,
            provider=provider,
            provider_name=provider_name,
            notices=notices,
        )
        return host

    def _provider(self, warn: Callable[[str], None]) -> tuple[str, Provider]:
        """The configured provider; with 'auto' the first that has what it requires, or the demo, which requires nothing."""
        name = self._settings.provider
        if name == "auto":
            ready = (
                name
                for name, offer in self._plugins.providers().items()
                if (required := [each for each in offer.value.manifest.fields if each.required])
                and all(self._settings.variables.get(each.variable) for each in required)
            )
            name = next(ready, DEMO)
        factory = self._plugins.choose("provider", name)
        context = ProviderContext(
            settings=self._values(factory.manifest.fields),
            warn=warn,
            refuse_real_models=self._settings.refuse_real_models,
            silence=self._settings.model_silence,
        )
        return name, factory.create(context)

    async def _channels(self, wake: Callable[[str, str], None]) -> tuple[dict[str, Channel], dict[str, Health]]:
        """Every channel that has what it requires; one that cannot be made is listed with its reason."""
        channels: dict[str, Channel] = {}
        healths: dict[str, Health] = {}
        for name, offer in self._plugins.channels().items():
            health = healths[name] = Health(name=name)
            reason = await self._make_channel(offer.value, partial(wake, name), channels)
            if reason:
                health.become(State.ENDED, self._clock.time(), reason)
        return channels, healths

    async def _make_channel(self, factory: ChannelFactory, wake: Wake, channels: dict[str, Channel]) -> str | None:
        """Add the channel, or return why it cannot be made. It is made in a thread: platform libraries import slowly."""
        variables = self._settings.variables
        missing = [each.variable for each in factory.manifest.fields if each.required and not variables.get(each.variable)]
        if missing:
            return f"not set up: {', '.join(missing)} is not set"
        context = ChannelContext(settings=self._values(factory.manifest.fields), wake=wake)

        async def make() -> None:
            channels[factory.name] = await to_thread.run_sync(factory.create, context)

        return await survive(f"channel {factory.name}", make())

    def _values(self, fields: tuple[SetupField, ...]) -> Mapping[str, str]:
        variables = self._settings.variables
        return {each.variable: variables[each.variable] for each in fields if each.variable in variables}

    def _terms(self, installation: str) -> Terms:
        settings = self._settings
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
            start_timeout=settings.start_timeout,
            idle_timeout=settings.idle_timeout,
            starts_at_once=(os.cpu_count() or 1) + 1,
        )


@dataclass(slots=True, kw_only=True)
class Host:
    """A built host. `run` does everything; the rest is what the control socket asks."""

    settings: Settings
    plugins: Plugins
    database: Database
    clock: Clock
    mailboxes: Mailboxes
    gateway: Gateway
    image: WorkerImage
    pool: Pool
    delivery: Delivery
    router: Router
    journal: Journal
    channels: Mapping[str, Channel]
    healths: Mapping[str, Health]
    provider: Provider
    provider_name: str
    notices: list[str]
    _began: float = field(default_factory=time.time)
    _image_state: str = "not asked yet"
    _image_tag: str = ""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Receive, route, work and deliver until cancelled."""
        async with anyio.create_task_group() as tasks:
            parts = {"delivery": self.delivery.run, "workers": self.pool.run, "routing": self.router.run}
            for name, run in parts.items():
                tasks.start_soon(supervise, run, Health(name=name), self.clock, name=name)
            for name, channel in self.channels.items():
                tasks.start_soon(self._run_channel, name, channel, name=f"channel {name}")
            task_status.started()

    async def _run_channel(self, name: str, channel: Channel) -> None:
        async def attempt(task_status: TaskStatus[None]) -> None:
            await channel.run(self.receive, task_status=task_status)

        await supervise(attempt, self.healths[name], self.clock)

    async def receive(self, message: InboundMessage, cursor: str | None = None) -> bool:
        """The `Receive` of every channel."""
        is_new = await self.journal.accept(message, cursor)
        data = {"channel": message.address.channel, "known": not is_new}
        self.plugins.tell(Event(name="message.accepted", at=self.clock.time(), data=data))
        return is_new

    # --- the image --------------------------------------------------------------------------------------------------------

    async def ensure_image(self) -> str:
        """The tag of the worker image, built first if it is missing; whoever is at a terminal sees how far it is."""
        self._image_state = "checking"
        try:
            self._image_tag = await self.image.ensure(self._image_progress)
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
        lines = list(self.notices)
        if self.provider_name == DEMO:
            lines.append("No credential is set, so the demo provider answers. Set ANTHROPIC_API_KEY to talk to Claude.")
        return lines

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
            "uptime": time.time() - self._began,
            "home": str(self.settings.home),
            "provider": {"name": self.provider_name, "demo": self.provider_name == DEMO},
            "image": {"name": self._image_tag or "worker image", "state": self._image_state},
            "channels": [asdict(health) for health in self.healths.values()],
            "agents": [{"name": each.name, "folder": each.folder, "main": each.is_main} for each in groups],
            "plugins": [asdict(status) for status in self.plugins.statuses],
            **self.pool.status(),
        }


def _agent(connection: Any, name: str | None) -> AgentGroup:
    found = agents.main_agent_group(connection) if name is None else agents.agent_group_named(connection, name)
    if found is None:
        raise UnknownName("agent", name or "main", [group.name for group in agents.agent_groups(connection)])
    return found
