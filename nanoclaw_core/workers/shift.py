"""A shift: everything that workers do for one session, from its first waiting row until the last one has rested.

A shift is one task. Others only leave it signs (a row came, a turn ended, the container died) and ring its bell; the task
looks at what has become of the session and does what is next.
"""

from __future__ import annotations

from functools import partial

import anyio
import structlog

from nanoclaw_core.errors import ContainerFailed, NanoClawError
from nanoclaw_core.models import AgentGroup, Progress, Session, TurnEnd
from nanoclaw_core.ports import WorkerLink
from nanoclaw_core.supervise import Pauses, both, clean_up, first_of, sleep_or
from nanoclaw_core.workers.desk import Desk, Outage
from nanoclaw_core.workers.exchange import Exchange
from nanoclaw_core.workers.life import Life
from nanoclaw_core.workers.slots import Place, Slots

log = structlog.get_logger()

MAX_STEPS = 200  # of one turn that are kept
STOP_PATIENCE = 0.8  # seconds that an engine has to stop when a person says so


class CalledOff(Exception):
    """A person wrote `/stop`: what the session waits for is not wanted any more."""


class Shift:
    """The task `run` and the signs that others leave for it. While it has a worker, it stands in `crew` under its id."""

    def __init__(
        self, desk: Desk, slots: Slots, outage: Outage, crew: dict[str, Shift], session: Session, agent_group: AgentGroup
    ) -> None:
        self.session = session
        self.agent_group = agent_group
        self.exchange = Exchange(desk, session, agent_group)
        self.life: Life | None = None
        self.doing = "waiting for a place"
        self.idle_since: float | None = None
        self._desk = desk
        self._slots = slots
        self._outage = outage
        self._crew = crew
        self._bell = anyio.Event()
        self._stop = anyio.Event()
        self._link: WorkerLink | None = None
        self._last_worker: str | None = None
        self._must_repeat = False
        self._gives_way = False
        self._steps = 0
        self._pauses = Pauses(first=1.0, most=300.0)

    def take(self, life: Life) -> None:
        """Have this worker from now on."""
        self.life, self._last_worker = life, life.worker_id
        self._crew[life.worker_id] = self

    # --- signs ------------------------------------------------------------------------------------------------------------

    def ring(self) -> None:
        """Something has changed: look."""
        self._bell.set()

    def stop(self) -> None:
        """A person wants that nothing more is done; what that means stands in the mailbox."""
        self._stop.set()
        self.ring()

    @property
    def was_rung(self) -> bool:
        """Whether something has changed since the task last looked."""
        return self._bell.is_set()

    @property
    def is_free(self) -> bool:
        """Whether its worker rests and was not asked yet to give way."""
        return self.doing in ("idle", "paused") and not self._gives_way

    @property
    def rank_of_rest(self) -> tuple[bool, float]:
        """Who of those that are free ends first: the least of these."""
        return bool(self.life and self.life.has_background), self.idle_since or 0.0

    @property
    def is_leaving(self) -> bool:
        """Whether its worker was asked to give way and is still there."""
        return self.doing == "ending" or (self._gives_way and self.doing in ("idle", "paused"))

    def give_way(self) -> None:
        """Others need the memory: end as soon as nothing waits any more."""
        self._gives_way = True
        self.ring()

    def linked(self, link: WorkerLink | None) -> None:
        """The runner is connected, again perhaps, or no longer."""
        self._link = link
        self._must_repeat = link is not None
        if self.life:
            self.life.alive(self._desk.clock.monotonic())
        self.ring()

    def lost(self, reason: str) -> None:
        """The worker is dead, or must be."""
        if self.life and not self.life.ended:
            self.life.ended = reason
        self.ring()

    async def progressed(self, progress: Progress) -> None:
        if self.life:
            now = self._desk.clock.monotonic()
            self.life.alive(now)
            self._set_background(self.life, progress.background)
            if progress.note and self.idle_since is not None:
                self.idle_since = now  # a turn that the engine began by itself
        if progress.note and self.exchange.reply_to and self.exchange.open:
            if self.life and self._steps < MAX_STEPS:
                self._steps += 1
                self._desk.note_tool(self.session, self.life.worker_id, progress.note)
            await self._desk.typing(self.exchange.reply_to, progress)

    def previewed(self, text: str) -> None:
        """The engine has written `text` of its answer so far."""
        if self.life:
            self.life.alive(self._desk.clock.monotonic())
        self.exchange.previewed(text)

    async def turn_ended(self, end: TurnEnd) -> None:
        """Store the end of a turn."""
        if self.life:
            self._set_background(self.life, end.background)
        if await self.exchange.turn_ended(end):
            self._steps = 0
            self._pauses.reset()
            if self.life:
                await self.life.proved()
        self.ring()

    def _set_background(self, life: Life, background: bool | None) -> None:
        if background is None or background is life.has_background:
            return
        life.has_background = background
        if self.idle_since is not None:
            self.idle_since = self._desk.clock.monotonic()  # it rests only now
        self.ring()

    # --- the task ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run workers for the session until it has nothing to do."""
        while True:
            await self.exchange.load()
            if self.life is None and await self.exchange.is_called_off():
                await self._call_off()
            elif await self.exchange.give_up_hopeless(self.life.adoptions if self.life else 0):
                if self.life:
                    await self._part(self.life, "hosts died on it too often")
            elif not self.exchange.open and not await self.exchange.something_waits() and self.life is None:
                return  # nothing was adopted for it meanwhile
            else:
                await self._try()

    async def _try(self) -> None:
        """Run one worker; when it fails, say so and wait a growing pause, which new messages do not cut short."""
        try:
            await self._live()
        except CalledOff:
            log.info("session.called_off", session=self.session.id)
        except NanoClawError as error:
            await self.exchange.bear(error)
            self.doing = f"waiting: {error}"
            if self.life is None:  # else it was adopted just now
                pause = partial(self._outage.pause, self._desk.clock, self._pauses.next())
                await first_of(pause, self._stop.wait)

    async def _live(self) -> None:
        """One worker: start it or go on with it, serve it, and part with it whatever happens."""
        with self._slots.worker(self.agent_group.id) as place:
            life = self.life or await self._new_life(place)
            self._slots.let_in(place)
            self._gives_way = False
            self.take(life)
            reason = "the host failed"
            try:
                await (self._go_on(life) if life.container_id else self._start(life))
                await self.exchange.take_over(life.worker_id)
                await self._serve(life, place)
                reason = "idle"
            except CalledOff:
                reason = "it was stopped by a person"
                raise
            except NanoClawError as error:
                reason = str(error)
                raise
            except anyio.get_cancelled_exc_class():
                reason = "" if self._outlives_us(life) else "the host stopped"
                raise
            finally:
                await self._part(life, reason)

    async def _new_life(self, place: Place) -> Life:
        """Wait until there is room for another worker."""
        self.doing = "waiting for a place"
        if not await self._turn(place):
            raise CalledOff
        self._outage.check()
        await self._desk.require_room()
        await self._desk.require_quota(self.agent_group)
        return Life.of(self._desk, self.session, self.agent_group, self._last_worker)

    async def _turn(self, place: Place) -> bool:
        """Wait until it is this session's turn to work; False when a person does not want to wait."""
        while not place.is_working:
            await first_of(partial(self._slots.work, place), self._stop.wait)
            if await self._is_called_off():
                self._slots.rest(place)  # it may have come in the same moment
                return False
        return True

    async def _start(self, life: Life) -> None:
        self.doing = "starting"
        async with self._slots.start():
            resume, stream = bool(self.exchange.open), await self.exchange.streams()
            await life.begin(await self.exchange.mailbox(), resume=resume, stream=stream)
            await self._linked(life)

    async def _go_on(self, life: Life) -> None:
        self.doing = "returning"
        await life.go_on()
        await self._linked(life)

    async def _linked(self, life: Life) -> None:
        while self._link is None:
            if await self._is_called_off():
                raise CalledOff
            await self._next_sign(life)

    def _outlives_us(self, life: Life) -> bool:
        """Whether the worker has something to do that the next host can take up, or nobody knows yet how its start ends."""
        is_busy = bool(self.exchange.open) or life.has_background or life.container_id is None
        return life.is_placed and not life.ended and is_busy

    async def _serve(self, life: Life, place: Place) -> None:
        """Work and rest by turns; return when the worker has rested for long enough, or others need its memory."""
        while True:
            await both(life.wake, partial(self._work, life))  # what is pushed meanwhile waits in the worker's socket
            self.doing, self.idle_since = "idle", self._desk.clock.monotonic()
            self._slots.rest(place)  # which may ask it to give way
            try:
                if not await self._rest(life, place):
                    return
            finally:
                self.idle_since = None

    async def _work(self, life: Life) -> None:
        """Push what waits, until all is answered and nothing waits or it is somebody else's turn."""
        self.exchange.began = None
        life.alive(self._desk.clock.monotonic())
        while True:
            self.doing = "working"
            if await self._is_called_off():
                await self._interrupt()
            if self._link:
                await self._push(self._link, life)
                if not self.exchange.open and not self._stop.is_set():
                    return
            await self._next_sign(life)

    async def _push(self, link: WorkerLink, life: Life) -> None:
        if self._must_repeat:
            self._must_repeat = False
            await self.exchange.repeat(link)
        if await self.exchange.push_waiting(link, life.worker_id, others_wait=self._slots.waiting > 0):
            self.stop()

    async def _rest(self, life: Life, place: Place) -> bool:
        """Wait for something to do, and for the turn to do it; False when the worker shall end instead."""
        while True:
            if await self._is_called_off():
                await self._call_off()
            elif await self.exchange.something_waits():
                self.doing = "waiting for its turn"
                if await self._turn(place):
                    return True
            elif self._gives_way or self._rested >= self._most_rest(life):
                return False
            elif life.can_pause and self._rested >= self._desk.terms.pause_after:
                await first_of(partial(self._measure, life, place), self._bell.wait)  # Docker may take a second
                await (self._next_sign(life) if self._bell.is_set() else life.pause())
            else:
                self.doing = "paused" if life.is_paused else "idle"
                await self._next_sign(life)

    async def _measure(self, life: Life, place: Place) -> None:
        self._slots.rest(place, await life.memory())

    @property
    def _rested(self) -> float:
        """Seconds since the worker became idle."""
        now = self._desk.clock.monotonic()
        return now - (now if self.idle_since is None else self.idle_since)

    def _most_rest(self, life: Life) -> float:
        return self._desk.terms.background_timeout if life.has_background else self._desk.terms.idle_timeout

    async def _next_sign(self, life: Life) -> None:
        """Wait for the bell, or until the worker's patience ends.

        Raises:
            ContainerFailed: it is dead, or silent for too long. RuntimeUnavailable: silent, and its runtime is away.
        """
        bell, now = self._bell, self._desk.clock.monotonic()
        life.check()
        if self.idle_since is None:
            until = life.last_sign + self._silence
            if now >= until:
                self._outage.check()
                raise ContainerFailed(life.name, f"it gave no sign of life for {until - life.last_sign:.0f} s")
        else:
            until = self.idle_since + (self._desk.terms.pause_after if life.can_pause else self._most_rest(life))
        await sleep_or(self._desk.clock, until - now, bell)
        if bell is self._bell:
            self._bell = anyio.Event()

    @property
    def _silence(self) -> float:
        """For how many seconds a worker may be silent: less before it has reported, or after its link broke."""
        return self._desk.terms.hung_timeout if self._link else self._desk.terms.start_timeout

    async def _part(self, life: Life, reason: str) -> None:
        """End the worker for `reason`. Without any it goes on, and what it says is stored for as long as its door is open."""
        self.doing = "ending"
        if not reason or self._desk.database.is_lost:
            await life.leave()
            return
        async with clean_up():
            if self._link:
                await self._link.shutdown()
        await life.end(reason)
        self._crew.pop(life.worker_id, None)
        self.life = self._link = None

    # --- when it is stopped -----------------------------------------------------------------------------------------------

    async def _is_called_off(self) -> bool:
        """Whether a `/stop` waits, when somebody said so; it may be one that was heeded before the sign was seen."""
        if self._stop.is_set() and not await self.exchange.is_called_off():
            self._stop = anyio.Event()
        return self._stop.is_set()

    async def _interrupt(self) -> None:
        """Stop the running turn, and those that the engine makes of what else it was given.

        Raises:
            CalledOff: the engine does not obey: its worker is to be ended.
        """
        self.doing = "stopping"
        until = self._desk.clock.monotonic() + STOP_PATIENCE
        while self.exchange.open and (left := until - self._desk.clock.monotonic()) > 0:
            bell = self._bell = anyio.Event()
            with anyio.move_on_after(STOP_PATIENCE):
                if self._link:
                    await self._link.interrupt()
            if self.exchange.open:
                await sleep_or(self._desk.clock, left, bell)
        if self.exchange.open:
            raise CalledOff
        await self._call_off()

    async def _call_off(self) -> None:
        self._stop = anyio.Event()
        await self.exchange.call_off()
