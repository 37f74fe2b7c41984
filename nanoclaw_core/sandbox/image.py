"""The worker image: what goes in, the tag that follows from it, and building it when it is missing."""

from __future__ import annotations

import hashlib
import io
import ssl
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol, Self, runtime_checkable

import anyio
from anyio import to_thread

from nanoclaw_core.models import BuildContext
from nanoclaw_core.ports import Runtime
from nanoclaw_core.sandbox.base import DEFAULT_BASE, ensure_base
from nanoclaw_core.sandbox.spec import PROTOCOL
from nanoclaw_core.settings import Settings

#: Files and folders that the Dockerfile copies, and itself.
_INGREDIENTS: Final = ("Dockerfile", "requirements.txt", "runner/nanoclaw_runner", "runner/stand_ins")
IMAGE: Final = "nanoclaw-worker"
_BASE_SCRIPT: Final = "base.sh"
_CA_BUNDLE: Final = "ca-bundle.pem"


@runtime_checkable
class ListingRuntime(Runtime, Protocol):
    """A runtime that knows which images it has."""

    async def images_called(self, name: str) -> Mapping[str, int]:
        """The tags of the images called `name`, such as 'name:1', each with its size in bytes."""


class WorkerImage:
    """The image of this host's workers. `base` is what it is built on, `ca_bundle` certificates for the downloads."""

    def __init__(
        self, runtime: Runtime, *, base: str = DEFAULT_BASE, ca_bundle: Path | None = None, files: Path | None = None
    ) -> None:
        self._runtime = runtime
        self._base = base
        self._ca_bundle = ca_bundle
        self._files = files or container_files()
        self._building = anyio.Lock()

    @classmethod
    def of(cls, settings: Settings, runtime: Runtime) -> Self:
        """The one that a host with these settings would have."""
        return cls(runtime, base=settings.base_image, ca_bundle=settings.ca_bundle or found_ca_bundle(settings.variables))

    async def tag(self) -> str:
        """The tag of what the files say now."""
        return await to_thread.run_sync(image_tag, self._files, self._base)

    async def ensure(self, report: Callable[[str], None]) -> str:
        """Return the tag, after building the image if it is missing. Callers at the same time wait for one build.

        Raises:
            ImageBuildFailed, RuntimeUnavailable.
        """
        async with self._building:
            tag = await self.tag()
            if not await self._runtime.has_image(tag):
                await self._build(tag, report)
            return tag

    async def _build(self, tag: str, report: Callable[[str], None]) -> None:
        base = await ensure_base(self._runtime, self._base, self._files / _BASE_SCRIPT, report)
        context = await to_thread.run_sync(build_context, self._files, tag, base, self._ca_bundle)
        await self._runtime.build_image(context, report)


def container_files() -> Path:
    """The folder with the Dockerfile: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    packed = package / "_container"
    return packed if packed.is_dir() else package.parent / "container"


def image_tag(files: Path, base: str) -> str:
    """The image's name and tag: a hash over everything that ends up in it, and over the protocol that its runner speaks.

    `base` is the one asked for: its substitute is decided by base.sh, which is hashed as well. The CA bundle is not: it says
    how things are downloaded, not what.
    """
    digest = hashlib.sha256(f"{base}\0{PROTOCOL}\0".encode())
    for name, content in _contents(files, (*_INGREDIENTS, _BASE_SCRIPT)):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"{IMAGE}:{digest.hexdigest()[:12]}"


def build_context(files: Path, tag: str, base: str, ca_bundle: Path | None) -> BuildContext:
    """Everything that the runtime needs to build; the same input gives the same bytes."""
    contents = list(_contents(files, _INGREDIENTS))
    if ca_bundle is not None:
        contents.append((_CA_BUNDLE, ca_bundle.read_bytes()))
    return BuildContext(tag=tag, archive=_archive(contents), arguments={"BASE_IMAGE": base})


def found_ca_bundle(variables: Mapping[str, str]) -> Path | None:
    """The certificates that this machine trusts: those that the common variables name, else the system's own.

    So a build works wherever its host does, also behind a proxy that inspects TLS.
    """
    named = (variables.get(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))
    trusted = (*named, ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt")
    return next((path for name in trusted if name and (path := Path(name)).is_file()), None)


def _contents(files: Path, names: Iterable[str]) -> Iterable[tuple[str, bytes]]:
    for name in sorted(names):
        root = files / name
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(files).as_posix(), path.read_bytes()


def _archive(contents: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in contents:
            entry = tarfile.TarInfo(name)  # time, owner and mode are the same everywhere
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
