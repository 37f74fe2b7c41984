"""The container runtime, the image of the workers, and containers that nobody owns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from anyio import to_thread

from nanoclaw_core.builtins.checks.lines import fail, known, ok, size, warn
from nanoclaw_core.errors import NanoClawError, RuntimeUnavailable
from nanoclaw_core.home import own_home
from nanoclaw_core.ports import CheckContext, CheckResult, Runtime
from nanoclaw_core.sandbox.image import IMAGE, ListingRuntime, WorkerImage
from nanoclaw_core.sandbox.orphans import orphans, sweep
from nanoclaw_core.settings import read
from nanoclaw_core.store.inspection import Overview

#: What the host says of its image while nothing is wrong with it.
_FINE = ("not asked yet", "checking", "building", "ready")


async def check(context: CheckContext) -> AsyncIterator[CheckResult]:
    """The runtime and, while it answers, all that depends on it."""
    try:
        runtime = await to_thread.run_sync(context.runtime, abandon_on_cancel=True)
        version = await runtime.check()
    except RuntimeUnavailable as error:
        yield fail("runtime", f"{error.runtime} does not answer: {error.reason}", error.advice)
        return
    except NanoClawError as error:
        yield fail("runtime", str(error), "correct NANOCLAW_RUNTIME")
        return
    yield _runtime(context, version)
    yield await _image(context, runtime)
    if isinstance(runtime, ListingRuntime) and (old := await _old_images(context, runtime)):
        yield old
    if line := await _containers(context, runtime):
        yield line


def _runtime(context: CheckContext, version: str) -> CheckResult:
    said = context.host["runtime"] if context.host else "running"
    if said != "running":
        restart = "`nanoclaw stop` and start it again, in this environment"
        return fail("runtime", f"{version} answers here, but not to the host: {said}", restart)
    return ok("runtime", f"{version} answers")


async def _image(context: CheckContext, runtime: Runtime) -> CheckResult:
    image = _worker_image(context, runtime)
    tag = await image.tag()
    if await runtime.has_image(tag):
        return ok("image", f"{tag} is there")
    said = context.host["image"]["state"] if context.host else ""
    build = "`nanoclaw image build`"
    if said and said not in _FINE:
        return fail("image", said, build)
    return warn("image", f"{tag} is not there yet; the first message has it built", build, partial(_build, image))


def _worker_image(context: CheckContext, runtime: Runtime) -> WorkerImage:
    return WorkerImage.of(read(context.home, context.variables), runtime)


async def _build(image: WorkerImage) -> str:
    return f"built {await image.ensure(lambda _line: None)}"


async def _old_images(context: CheckContext, runtime: ListingRuntime) -> CheckResult | None:
    """Those of earlier versions. Other installations on this machine may use them, so nobody but the owner can remove them."""
    current = await _worker_image(context, runtime).tag()
    old = {tag: length for tag, length in (await runtime.images_called(IMAGE)).items() if tag != current}
    if not old:
        return None
    reason = f"{len(old)} images of other versions are there ({size(sum(old.values()))} at most)"
    return ok("old images", reason, f"unless another installation uses them: `docker image rm {' '.join(sorted(old))}`")


async def _containers(context: CheckContext, runtime: Runtime) -> CheckResult | None:
    found = await to_thread.run_sync(known, context.home, abandon_on_cancel=True)
    if found is None or not found.installation:
        return None
    lost = await orphans(runtime, found.installation, found.live_workers)
    if not lost:
        whose = "" if context.host else ", which the next start of the host looks after"
        return ok("containers", f"workers: {len(found.live_workers)}{whose if found.live_workers else ''}; no others are left")
    mend = None if context.host else partial(_sweep, context, runtime, found)
    reason = f"{len(lost)} containers belong to workers that are no more"
    by_whom = "the next start of the host" if context.host else "`nanoclaw doctor --fix`, or the next start of the host,"
    return warn("containers", reason, f"{by_whom} removes them", mend)


async def _sweep(context: CheckContext, runtime: Runtime, found: Overview) -> str:
    with own_home(context.home):  # no host starts a worker meanwhile
        swept = await sweep(runtime, found.installation, found.live_workers, context.home / "logs" / "workers")
    return f"removed {len(swept)} containers of workers that are no more"
