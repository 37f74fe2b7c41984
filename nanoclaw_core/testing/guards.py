"""Guards around a test: it may not reach the network, leave the environment changed, hold the event loop, or ask a real model.

Each guard is a context manager. What it forbids raises on the spot where it can, and always again at the end of the test,
because code under test may well swallow the first error.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any
from unittest.mock import patch

#: With this in the environment, no provider asks anybody but this machine.
KILL_SWITCH = "NANOCLAW_REFUSE_REAL_MODELS"

#: Credentials that a developer's shell may hold: with one of them, `provider=auto` would choose another provider in tests.
_CREDENTIALS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")


class GuardFailure(AssertionError):
    """A test did what a guard forbids."""


# --- network --------------------------------------------------------------------------------------------------------------


@contextmanager
def network_guard() -> Generator[None]:
    """Refuse to connect, send or resolve to anything but this machine (loopback and Unix sockets).

    Covers Python's `socket` module in this process: not other processes, not libraries that bring their own sockets.

    Raises:
        GuardFailure: naming the address, at the call and at the end.
    """
    attempts: list[str] = []

    def refuse(call: str, address: object) -> None:
        attempts.append(f"{call} to {address!r}")
        raise GuardFailure(f"this test must not leave this machine, but called {attempts[-1]}")

    def guarded(name: str) -> Callable[..., Any]:  # stands in for methods of several shapes
        original = getattr(socket.socket, name)

        def method(self: socket.socket, *arguments: Any) -> Any:
            # The address comes last: connect(address), sendto(data, address), sendto(data, flags, address).
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(arguments[-1][0]):
                refuse(name, arguments[-1])
            return original(self, *arguments)

        return method

    def resolver(name: str) -> Callable[..., Any]:  # the same
        original = getattr(socket, name)

        def function(host: Any, *arguments: Any, **options: Any) -> Any:
            if not _is_local(host):
                refuse(name, host)
            return original(host, *arguments, **options)

        return function

    methods: Any = {name: guarded(name) for name in ("connect", "connect_ex", "sendto")}  # Any, as patch.multiple is typed
    functions: Any = {name: resolver(name) for name in ("getaddrinfo", "gethostbyname")}
    with patch.multiple(socket.socket, **methods), patch.multiple(socket, **functions):
        yield
    _fail_with(attempts, "this test must not leave this machine, but called")


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host is None or host in ("", "localhost"):
        return True
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


# --- environment ----------------------------------------------------------------------------------------------------------


@contextmanager
def environment_guard() -> Generator[None]:
    """Refuse to leave `os.environ` changed; put it back in any case.

    Raises:
        GuardFailure: naming the variables, never their values.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        after = dict(os.environ)
        os.environ.clear()
        os.environ.update(before)
    changed = {name for name, _ in before.items() ^ after.items()} - {"PYTEST_CURRENT_TEST"}
    _fail_with(sorted(changed), "this test left the environment changed (use monkeypatch.setenv):")


# --- event loop -----------------------------------------------------------------------------------------------------------


@contextmanager
def loop_guard(*, working: float = 1.5, waiting: float = 3.0) -> Generator[None]:
    """Refuse a callback that keeps the event loop for itself: `working` seconds of CPU, or `waiting` seconds altogether.

    The limits are generous on purpose. CPU time of the loop's own thread does not grow when a busy machine gives that thread
    no turn; the second limit, which catches calls that sleep, has to leave room for that.

    Raises:
        GuardFailure: at the end, naming the callback or task.
    """
    held: list[str] = []
    run = asyncio.Handle._run  # noqa: SLF001  # asyncio's own debug mode knows only wall time

    def measured(handle: asyncio.Handle) -> None:
        started, started_cpu = time.perf_counter(), time.thread_time()
        run(handle)
        wall, cpu = time.perf_counter() - started, time.thread_time() - started_cpu
        if cpu > working or wall > waiting:
            held.append(f"{_name_of(handle)} for {wall:.1f} s ({cpu:.1f} s of CPU)")

    with patch.object(asyncio.Handle, "_run", measured):
        yield
    _fail_with(held, "this test blocked the event loop:")


def _name_of(handle: asyncio.Handle) -> str:
    callback = getattr(handle, "_callback", None)
    return repr(getattr(callback, "__self__", None) or callback)


# --- models ---------------------------------------------------------------------------------------------------------------


@contextmanager
def refuse_real_models() -> Generator[None]:
    """Turn the kill switch on, and hide credentials that happen to be in the environment."""
    with patch.dict(os.environ, {KILL_SWITCH: "1"}):
        for name in _CREDENTIALS:
            os.environ.pop(name, None)
        yield


def _fail_with(faults: Iterable[str], text: str) -> None:
    if listed := "; ".join(faults):
        raise GuardFailure(f"{text} {listed}")
