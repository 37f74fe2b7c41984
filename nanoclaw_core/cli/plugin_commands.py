"""`nanoclaw plugin ...`: the commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nanoclaw_core.cli.base import Group, settings
from nanoclaw_core.cli.scaffold import new_plugin


@click.group(cls=Group)
def plugin() -> None:
    """Install, enable, list, make and judge plugins.

    An installed plugin is imported only once it is enabled. Changes take effect at the next start of the host.
    """


plugin.add_command(new_plugin)


@plugin.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_plugins(as_json: bool) -> None:
    """List all plugins.

    Shows what each offers, and why a broken one was left out.
    """
    from nanoclaw_core.cli.plugins import show

    show(settings(), as_json)


@plugin.command()
@click.argument("name")
def enable(name: str) -> None:
    """Load a plugin from the next start on."""
    from nanoclaw_core.cli.plugins import enable

    enable(settings(), name)


@plugin.command()
@click.argument("name")
def disable(name: str) -> None:
    """Leave a plugin out from the next start on."""
    from nanoclaw_core.cli.plugins import disable

    disable(settings(), name)


def _manner(command: Any) -> Any:  # a decorator of decorators; click types them as loosely
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the change as one JSON object; with --yes or --dry-run."),
        click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing."),
        click.option("--yes", is_flag=True, help="Do not ask."),
    ):
        command = option(command)
    return command


@plugin.command("install")
@click.argument("target", metavar="NAME|WHEEL|FOLDER")
@click.option("--no-enable", is_flag=True, help="Only install: nothing of it runs before `nanoclaw plugin enable`.")
@_manner
def install_plugin(target: str, no_enable: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Install a plugin, and enable it.

    NAME is a package of the index, with a range if need be ('nanoclaw-telegram<2'); a path has a slash in it, or ends in .whl.
    Shows first what would change, and refuses what does not fit together.
    """
    from nanoclaw_core.cli.packages import Manner, install

    install(settings(), target, not no_enable, Manner(yes=yes, dry_run=dry_run, as_json=as_json))


@plugin.command("upgrade")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@_manner
def upgrade_plugins(names: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool) -> None:
    """Upgrade plugins: those named, or all.

    Nothing else is upgraded than what they ask for, and never NanoClaw itself.
    """
    from nanoclaw_core.cli.packages import Manner, upgrade

    upgrade(settings(), names, Manner(yes=yes, dry_run=dry_run, as_json=as_json))


@plugin.command("uninstall")
@click.argument("name")
@_manner
def uninstall_plugin(name: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Uninstall a plugin. Its data stays.

    Also removes what was installed for it alone. `nanoclaw plugin list` goes on showing its data.
    """
    from nanoclaw_core.cli.packages import Manner, uninstall

    uninstall(settings(), name, Manner(yes=yes, dry_run=dry_run, as_json=as_json))


@plugin.command("rollback")
@click.option("--steps", metavar="N", type=click.IntRange(1, 3), default=1, help="Go back by so many changes (1; 3 are kept).")
@_manner
def roll_back_plugins(steps: int, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Undo the last change of the installed plugins.

    Restores the versions from before it, out of kept wheels: no network is needed.
    """
    from nanoclaw_core.cli.packages import Manner, rollback

    rollback(settings(), steps, Manner(yes=yes, dry_run=dry_run, as_json=as_json))


@plugin.command("check")
@click.argument("target", metavar="PACKAGE|FOLDER")
@click.option("--report", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write it down there, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def check_plugin(target: str, report: Path | None, as_json: bool) -> int:
    """Judge a plugin package, and run its contracts.

    With the FOLDER of its source, which must be installed here, its tests are run: each capability of a contract passes, fails
    or is not claimed. The exit code is 1 when something failed.
    """
    from nanoclaw_core.cli.conformance import check

    return check(target, report, as_json)
