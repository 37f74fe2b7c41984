"""`nanoclaw mount ...`: the commands and their options."""

from __future__ import annotations

import click

from nanoclaw_core.cli.base import Group, settings

_AGENT = click.option("--agent", metavar="NAME", help="The agent; without it, the main one.")
_ACCESS = click.option(
    "--read-only/--read-write", "read_only", default=True, help="Let the agent only read (the default), or write as well."
)


@click.group(cls=Group)
def mount() -> None:
    """Give agents folders of yours.

    An agent sees them as /workspace-extra/NAME. What may be given at all stands in mount-allowlist.json, outside of the home.
    Changes take effect at the agent's next worker; those that rest end at once.
    """


@mount.command("add")
@click.argument("path")
@_AGENT
@click.option("--name", metavar="NAME", help="What it is called in the container; without it, as the folder is.")
@_ACCESS
def add_mount(path: str, agent: str | None, name: str | None, read_only: bool) -> None:
    """Give an agent a folder, or a plain file."""
    from nanoclaw_core.cli.mounts import add

    add(settings(), path, agent=agent, name=name, read_only=read_only)


@mount.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_mounts(as_json: bool) -> None:
    """List which agent sees which folders."""
    from nanoclaw_core.cli.mounts import show

    show(settings(), as_json)


@mount.command("remove")
@click.argument("name")
@_AGENT
def remove_mount(name: str, agent: str | None) -> None:
    """Take a folder from an agent. NAME is that of `nanoclaw mount list`."""
    from nanoclaw_core.cli.mounts import remove

    remove(settings(), name, agent)


@mount.command("check")
@click.argument("path")
@_AGENT
@_ACCESS
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def check_mount(path: str, agent: str | None, read_only: bool, as_json: bool) -> int:
    """Explain, rule by rule, whether an agent may see a folder.

    Changes nothing. The exit code is 3 when it may not.
    """
    from nanoclaw_core.cli.mounts import check

    return check(settings(), path, agent=agent, read_only=read_only, as_json=as_json)


@mount.command("allow")
@click.argument("path")
@_ACCESS
@click.option("--description", metavar="TEXT", default="", help="What it is, for whoever reads the file.")
def allow_mount(path: str, read_only: bool, description: str) -> None:
    """Write a folder into mount-allowlist.json.

    It, and what is below it, may then be given to agents. The file is yours to edit as well: the running host reads it again
    when it has changed.
    """
    from nanoclaw_core.cli.mounts import allow

    allow(path, read_only=read_only, description=description)
