"""Docker as a runtime: its SDK in worker threads, with a time limit on every answer."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from io import BytesIO
from math import ceil
from typing import Any, Final, TypeVar

import anyio
import docker
from anyio import to_thread
from docker import APIClient
from docker.errors import APIError, DockerException
from docker.utils import parse_repository_tag
from requests import Response
from urllib3.exceptions import ProtocolError

from nanoclaw_core.errors import ContainerFailed, ImageBuildFailed, NanoClawError, RuntimeUnavailable
from nanoclaw_core.models import BuildContext, ContainerSpec, ContainerState
from nanoclaw_core.sandbox.containers import (
    answers_of,
    attach_output,
    create_reader,
    died,
    freeze,
    inspected,
    memory_of,
    socket_of,
    start_container,
    unless_gone,
)
from nanoclaw_core.sandbox.words import Output, unreachable

T = TypeVar("T")

Refused = Callable[[str], NanoClawError]
"""Makes the error for a request that Docker understood and refused, out of Docker's reason."""

_unavailable: Final[Refused] = partial(RuntimeUnavailable, "Docker")

_OLDEST_VERSION: Final = "1.24"  # for the question which version it may be
_BUILD_LIMIT: Final = 1800.0  # seconds for one image build


class _NotFetched(NanoClawError):
    """A registry's reason for not giving an image."""


class DockerRuntime:
    """The `Runtime` port over a Docker daemon.

    `address` is a URL such as unix:///run/docker.sock; None means what the `docker` command would use. `timeout` (seconds)
    bounds every answer of the daemon. Docker's client is not safe between threads, and a pool would outlive the threads:
    each call has a client of its own (4 ms), and the API's version is agreed upon once.
    """

    def __init__(self, address: str | None = None, timeout: float = 30) -> None:
        self._address = address
        self._timeout = timeout
        self._version: str | None = None
        self._limiter = anyio.CapacityLimiter(8)

    async def check(self) -> str:
        version = await self._call(lambda client: client.version())
        return f"Docker {version['Version']} (API {version['ApiVersion']})"

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        return await self._call(lambda client: start_container(client, spec, first_line), partial(ContainerFailed, spec.name))

    async def stop(self, container_id: str, grace: float) -> None:
        await self._call(lambda client: unless_gone(lambda: client.stop(container_id, timeout=ceil(grace)), None))

    async def remove(self, container_id: str) -> None:
        await self._call(lambda client: unless_gone(lambda: client.remove_container(container_id, v=True, force=True), None))

    async def pause(self, container_id: str) -> None:
        await self._call(partial(freeze, container_id=container_id, paused=True), partial(ContainerFailed, container_id))

    async def resume(self, container_id: str) -> None:
        await self._call(partial(freeze, container_id=container_id, paused=False), partial(ContainerFailed, container_id))

    async def memory(self, container_id: str) -> int:
        return await self._call(lambda client: unless_gone(lambda: memory_of(client, container_id), 0))

    async def containers(self, labels: Mapping[str, str]) -> list[ContainerState]:
        def states(client: APIClient) -> list[ContainerState]:
            found = client.containers(all=True, filters={"label": _filter(labels)})
            return [state for item in found if (state := inspected(client, item["Id"]))]

        return await self._call(states)

    async def output(self, container_id: str, limit: int) -> bytes:
        # Read whole, because Docker counts in lines and not in bytes; the log's limits keep it below 2 MB.
        written = await self._call(lambda client: unless_gone(lambda: client.logs(container_id), b""))
        return written[-limit:]

    @asynccontextmanager
    async def read(self, spec: ContainerSpec) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """See `ReadingRuntime`."""
        failed = partial(ContainerFailed, spec.name)
        container_id = await self._call(partial(create_reader, spec=spec), failed)
        try:
            async with self._stream(partial(attach_output, container_id=container_id), failed) as pieces:
                await self._call(lambda client: client.start(container_id), failed)
                yield self._said(pieces, container_id, failed)
        finally:
            with anyio.CancelScope(shield=True):
                await self.remove(container_id)

    async def _said(self, pieces: AsyncIterator[Any], container_id: str, failed: Refused) -> AsyncIterator[bytes]:
        complaint = b""
        async for out, error in pieces:
            complaint = (complaint + (error or b""))[-2000:]
            if out:
                yield out
        code = (await self._call(lambda client: client.wait(container_id)))["StatusCode"]
        if code != 0:
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            raise failed(last or f"it ended with code {code}")

    async def watch(self, labels: Mapping[str, str]) -> AsyncGenerator[ContainerState | None, None]:
        filters = {"type": "container", "event": "die", "label": _filter(labels)}
        events = self._stream(lambda client: client.events(filters=filters, decode=True), _unavailable)
        async with events as ends:
            yield None
            async for event in ends:
                yield await self._call(partial(died, event=event))
        raise RuntimeUnavailable("Docker", "the stream of its events ended")

    async def has_image(self, tag: str) -> bool:
        def look(client: APIClient) -> bool:
            return bool(client.inspect_image(tag))  # type: ignore[no-untyped-call]  # the stubs leave it out

        return await self._call(lambda client: unless_gone(lambda: look(client), False))

    async def images_called(self, name: str) -> Mapping[str, int]:
        """See `image.ListingRuntime`, which is not part of the port."""
        found = await self._call(lambda client: client.images(name))
        return {tag: int(image["Size"]) for image in found for tag in image["RepoTags"] or ()}

    async def build_image(self, context: BuildContext, report: Callable[[str], None]) -> None:
        def build(client: APIClient) -> Iterator[Any]:
            return client.build(
                fileobj=BytesIO(context.archive),
                custom_context=True,
                tag=context.tag,
                buildargs=dict(context.arguments),
                rm=True,
                forcerm=True,
                decode=True,
            )

        await self._follow(build, partial(ImageBuildFailed, context.tag), report)
        if not await self.has_image(context.tag):
            raise RuntimeUnavailable("Docker", "the connection was lost in the middle of a build")

    async def pull_image(self, tag: str, report: Callable[[str], None]) -> str | None:
        """Fetch an image; see `base.PullingRuntime`, which is not part of the port."""
        repository, version = parse_repository_tag(tag)

        def pull(client: APIClient) -> Any:  # an iterator, as the call asks for one
            return client.pull(repository, version or "latest", stream=True, decode=True)

        try:
            await self._follow(pull, _NotFetched, report)
        except _NotFetched as error:
            return str(error)
        return None

    async def import_image(self, tag: str, archive: str) -> None:
        repository, version = parse_repository_tag(tag)
        await self._call(
            lambda client: client.import_image(archive, repository=repository, tag=version), partial(ImageBuildFailed, tag)
        )

    async def _call(self, work: Callable[[APIClient], T], refused: Refused = _unavailable) -> T:
        def connected() -> T:
            with self._plain_words(refused), closing(self._connect()) as client:
                return work(client)

        return await to_thread.run_sync(connected, limiter=self._limiter, abandon_on_cancel=True)

    @asynccontextmanager
    async def _stream(
        self, request: Callable[[APIClient], Iterator[Any]], refused: Refused
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Open what the daemon streams. Leaving cuts the connection, which ends the daemon's work on it."""

        def open_stream() -> tuple[APIClient, Response, Iterator[Any]]:
            with self._plain_words(refused):
                client = self._connect()
                answers = answers_of(client)
                items = request(client)
                return client, answers[-1], items

        def next_item() -> Any:  # parsed JSON; None at the end, also when the connection broke
            with self._plain_words(refused), suppress(ProtocolError):
                return next(items, None)
            return None

        async def each() -> AsyncIterator[Any]:
            # A cancelled reader abandons the waiting thread; cutting the connection then ends that at once.
            while (item := await to_thread.run_sync(next_item, limiter=own, abandon_on_cancel=True)) is not None:
                yield item

        own = anyio.CapacityLimiter(1)
        client, answer, items = await to_thread.run_sync(open_stream, limiter=own, abandon_on_cancel=True)
        try:
            yield each()
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_cut, client, answer, limiter=own)

    async def _follow(
        self, request: Callable[[APIClient], Iterator[Any]], failed: Refused, report: Callable[[str], None]
    ) -> None:
        """Report the output of a build or a pull; raise what it says went wrong."""
        output = Output()
        try:
            with anyio.fail_after(_BUILD_LIMIT):
                async with self._stream(request, failed) as items:
                    async for item in items:
                        if complaint := item.get("error"):
                            raise failed(output.reason or complaint)
                        for line in output.hear(item):
                            report(line)
        except TimeoutError as error:
            raise failed(f"it took longer than {_BUILD_LIMIT / 60:.0f} minutes") from error

    def _connect(self) -> APIClient:
        if self._version is None:
            with closing(self._client(_OLDEST_VERSION)) as client:
                _knock(client, self._timeout)
                self._version = client.version(api_version=False)["ApiVersion"]
        client = self._client(self._version)
        _knock(client, self._timeout)
        return client

    def _client(self, version: str) -> APIClient:
        options: Any = {"version": version, "timeout": self._timeout}  # the stubs know whole seconds only
        return APIClient(self._address, **options) if self._address else docker.from_env(**options).api

    @contextmanager
    def _plain_words(self, refused: Refused) -> Iterator[None]:
        try:
            yield
        except APIError as error:
            raise refused(error.explanation or str(error)) from error
        except (DockerException, OSError) as error:
            self._version = None  # it may come back as another one
            raise unreachable(error, self._timeout) from error


def _knock(client: APIClient, timeout: float) -> None:
    """Fail with the bare reason where nobody listens: the SDK buries that in text, and leaves a socket open."""
    path = getattr(client.get_adapter(client.base_url), "socket_path", None)
    if path is not None:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(timeout)
            door.connect(path)


def _cut(client: APIClient, answer: Response) -> None:
    """Break the connection, also while another thread reads from it."""
    with suppress(OSError, AttributeError):  # it has ended by itself
        socket_of(answer).shutdown(socket.SHUT_RDWR)
    answer.close()
    client.close()


def _filter(labels: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in labels.items()]
