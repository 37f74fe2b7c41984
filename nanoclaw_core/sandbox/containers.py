"""Containers in the words of Docker's API: what is asked for, and what the answers mean. Everything here runs in a thread."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any, Final, TypeVar

from docker import APIClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig
from docker.types import Mount as BindMount
from docker.utils import version_gte
from docker.utils.socket import demux_adaptor, frames_iter
from requests import Response

from nanoclaw_core.errors import ContainerFailed
from nanoclaw_core.models import ContainerSpec, ContainerState

T = TypeVar("T")

_KILLED: Final = 137  # 128 + SIGKILL: how a container ends whose memory is used up
#: What Docker mixes with the labels in the attributes of an event.
_NO_LABELS: Final = frozenset({"image", "name", "exitCode", "execDuration", "signal"})


def start_container(client: APIClient, spec: ContainerSpec, first_line: bytes) -> str:
    try:
        container_id = create_container(client, spec)
    except ImageNotFound as error:
        raise _imageless(spec) from error
    try:
        _run(client, container_id, first_line)
    except BaseException:
        with suppress(DockerException, OSError):  # the first error is the one to tell
            client.remove_container(container_id, v=True, force=True)
        raise
    return container_id


def create_reader(client: APIClient, spec: ContainerSpec) -> str:
    """A container of whose output Docker keeps nothing."""
    try:
        return create_container(client, spec, LogConfig(type="none"), has_input=False)
    except ImageNotFound as error:
        raise _imageless(spec) from error


def attach_output(client: APIClient, container_id: str) -> Iterator[tuple[bytes | None, bytes | None]]:
    """What comes on standard output and on standard error, from now on."""
    attached = client.attach_socket(container_id, params={"stdout": 1, "stderr": 1, "stream": 1})
    frames = frames_iter(attached, tty=False)  # type: ignore[no-untyped-call]  # the stubs leave it out
    return (demux_adaptor(*frame) for frame in frames)


def _imageless(spec: ContainerSpec) -> ContainerFailed:
    return ContainerFailed(spec.name, f"its image {spec.image} is not there; `nanoclaw image build` makes it")


def create_container(client: APIClient, spec: ContainerSpec, log: LogConfig | None = None, *, has_input: bool = True) -> str:
    host_config = client.create_host_config(
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        read_only=True,
        init=False,  # the images bring tini; two inits would get in each other's way
        ipc_mode="private",
        pids_limit=spec.limits.pids,
        mem_limit=spec.limits.memory,
        memswap_limit=spec.limits.memory,
        nano_cpus=int(spec.limits.cpus * 1e9),
        oom_score_adj=500,  # when the machine runs out of memory, a worker goes before the host
        # Programs may run from /tmp: builds do, and /workspace would let them anyway.
        tmpfs={"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={spec.limits.tmp}"},  # noqa: S108
        mounts=[BindMount(m.target, str(m.source), type="bind", read_only=m.read_only) for m in spec.mounts],
        log_config=log or LogConfig(type=LogConfig.types.JSON, config={"max-size": "1m", "max-file": "2"}),
    )
    created = client.create_container(
        spec.image,
        list(spec.argv) or None,
        name=spec.name,
        user=spec.user,
        environment=dict(spec.environment),
        labels=dict(spec.labels),
        host_config=host_config,
        stdin_open=has_input,  # with the SDK's StdinOnce: it closes for good when the first writer leaves
        use_config_proxy=False,  # the proxies of the user's Docker configuration may carry a password
    )
    return str(created["Id"])


def _run(client: APIClient, container_id: str, first_line: bytes) -> None:
    """Start it and hand `first_line` over; attaching first loses nothing."""
    answers = answers_of(client)
    client.attach_socket(container_id, params={"stdin": 1, "stream": 1})
    with closing(answers[-1]) as attached:
        client.start(container_id)
        connection = socket_of(attached)
        connection.settimeout(client.timeout)  # which the SDK took away
        connection.sendall(first_line)
        # Docker passes on what was sent before the end. Waiting for its own end would be waiting for the container's.
        connection.shutdown(socket.SHUT_WR)


def answers_of(client: APIClient) -> list[Response]:
    """The answers to what `client` asks from now on: the SDK's streams do not let their connection be closed."""
    answers: list[Response] = []
    client.hooks["response"].append(lambda answer, **_: answers.append(answer))
    return answers


def socket_of(answer: Response) -> socket.socket:
    raw: Any = answer.raw
    found: socket.socket = raw._fp.fp.raw._sock  # noqa: SLF001  # where the SDK looks for it, too
    return found


def inspected(client: APIClient, container_id: str) -> ContainerState | None:
    try:
        found = client.inspect_container(container_id)
    except NotFound:
        return None
    state = found["State"]
    running = bool(state["Running"])  # also while paused
    return ContainerState(
        id=container_id,
        name=found["Name"].removeprefix("/"),
        labels=found["Config"]["Labels"] or {},
        running=running,
        exit_code=None if running else state["ExitCode"],
        out_of_memory=not running and state["ExitCode"] == _KILLED and state["OOMKilled"],
        paused=running and bool(state["Paused"]),
    )


def freeze(client: APIClient, container_id: str, *, paused: bool) -> None:
    """Pause or resume it; a refusal does not matter where nothing was to be done."""
    try:
        (client.pause if paused else client.unpause)(container_id)
    except APIError:
        state = inspected(client, container_id)
        if state is not None and state.running and state.paused is not paused:
            raise


def memory_of(client: APIClient, container_id: str) -> int:
    """What it uses without its page cache, whose pages are listed as file pages in either version of cgroups."""
    at_once = version_gte(client.api_version, "1.41")  # an older Docker takes two looks, a second apart
    used = client.stats(container_id, stream=False, one_shot=at_once or None).get("memory_stats", {})
    counts = used.get("stats", {})
    total = "total_" if "total_active_file" in counts else ""
    files = sum(int(counts.get(f"{total}{name}_file", 0)) for name in ("active", "inactive"))
    return max(0, int(used.get("usage", 0)) - files)


def died(client: APIClient, event: Mapping[str, Any]) -> ContainerState:
    """What a `die` event tells, with Docker's own record of the container while that exists."""
    state = inspected(client, event["id"])
    if state is not None and not state.running:
        return state
    attributes = event["Actor"]["Attributes"]
    return ContainerState(
        id=event["id"],
        name=attributes["name"],
        labels={key: value for key, value in attributes.items() if key not in _NO_LABELS},
        running=False,
        exit_code=int(attributes["exitCode"]),
    )


def unless_gone(request: Callable[[], T], otherwise: T) -> T:
    """The answer, or `otherwise` for what is not there (404) or on its way out (409)."""
    try:
        return request()
    except APIError as error:
        if error.status_code not in {404, 409}:
            raise
        return otherwise
