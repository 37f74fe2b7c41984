"""The commands and their options. What does the work is imported by the command that needs it: `--help` stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nanoclaw_core import __version__
from nanoclaw_core.cli.base import Group as _Group
from nanoclaw_core.cli.base import settings as _settings
from nanoclaw_core.cli.base import span as _span
from nanoclaw_core.cli.channel_commands import channel, wiring
from nanoclaw_core.cli.mount_commands import mount
from nanoclaw_core.cli.plugin_commands import plugin
from nanoclaw_core.cli.secret_commands import secret
from nanoclaw_core.cli.usage_commands import budget, usage

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a bug; chat: no answer; doctor, messages --stuck: trouble
  2    wrong use of the command line
  3    configuration: a setting, the home folder, an unknown name
  4    the container runtime, or the worker image
  5    no host runs where one is needed, or one runs already
  130  interrupted with ctrl-C"""


@click.group(cls=_Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="nanoclaw", message="%(prog)s %(version)s")
def nanoclaw() -> None:
    """A personal AI assistant: Claude Code, answering your chats from inside a container.

    Settings come from the environment (NANOCLAW_HOME and others) and from .env in this folder and in the home.
    """


nanoclaw.add_command(channel)
nanoclaw.add_command(wiring)
nanoclaw.add_command(secret)
nanoclaw.add_command(mount)
nanoclaw.add_command(plugin)
nanoclaw.add_command(usage)
nanoclaw.add_command(budget)


@nanoclaw.command()
@click.option("--once", metavar="TEXT", help="Send TEXT ('-': all of standard input), print the answer and end.")
@click.option("--agent", metavar="NAME", help="Talk to this agent instead of the main one.")
def chat(once: str | None, agent: str | None) -> int:
    """Talk to an agent in this terminal.

    Starts the host in the background when none runs. With input from a pipe, each line is a message and is answered in turn:
    answers go to standard output, everything else to standard error.
    """
    from nanoclaw_core.cli.chat import run

    return run(_settings(), once, agent)


@nanoclaw.command()
@click.option("--log-file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write the log there.")
def serve(log_file: Path | None) -> int:
    """Run the host in the foreground.

    It runs until ctrl-C, SIGTERM or `nanoclaw stop`; a second ctrl-C ends it at once. Prints one line when it is ready. The log
    goes to standard error: for people on a terminal, as JSON lines otherwise.
    """
    from nanoclaw_core.cli.serve import run

    return run(_settings(), log_file)


@nanoclaw.command()
def stop() -> None:
    """Stop the running host.

    Waits until it is gone. Nothing is lost: messages that wait are answered after the next start.
    """
    from nanoclaw_core.cli.status import stop_host

    stop_host(_settings())


@nanoclaw.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def status(as_json: bool) -> None:
    """Show what the running host does."""
    from nanoclaw_core.cli.status import show_status

    show_status(_settings(), as_json)


@nanoclaw.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.option("--fix", is_flag=True, help="Mend what can be mended safely, and say what was done.")
def doctor(as_json: bool, fix: bool) -> int:
    """Find out what is wrong, and what to do about it.

    Works with the host running and without. The exit code is 1 when something failed; warnings alone leave it 0.
    """
    from nanoclaw_core.cli.doctor import run

    return run(_settings(), as_json, fix)


@nanoclaw.command()
@click.option("--stuck", is_flag=True, help="List only what waits beyond its deadline; exit code 1 when something does.")
@click.option("--agent", metavar="NAME", help="Only messages that this agent heard.")
@click.option("--chat", metavar="TEXT", help="Only chats whose name, id or channel has TEXT in it.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="The newest so many (20); not with --stuck.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def messages(stuck: bool, agent: str | None, chat: str | None, limit: int | None, as_json: bool) -> int:
    """List accepted messages, and what became of each.

    The newest comes last. Reads the home, and changes nothing: a host may run or not.
    """
    from nanoclaw_core.cli.messages import show_messages, show_stuck

    if stuck and limit is not None:
        raise click.UsageError("--stuck lists everything that is stuck: it goes without --limit.")
    if stuck:
        return show_stuck(_settings(), agent, chat, as_json)
    return show_messages(_settings(), limit or 20, agent, chat, as_json)


class _MessageNumber(click.IntRange):
    """A number of a message; what is none is told where they are."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # Any: click's
        try:
            number: int = super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} must be a number from `nanoclaw messages`.", param, ctx)
        return number


@nanoclaw.command()
@click.argument("number", type=_MessageNumber(1))
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def why(number: int, as_json: bool) -> None:
    """Show what became of a message, step by step.

    NUMBER is the message's number in `nanoclaw messages`. Reads the home, and changes nothing: a host may run or not.
    """
    from nanoclaw_core.cli.messages import show_why

    show_why(_settings(), number, as_json)


@nanoclaw.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until ctrl-C.")
@click.option("--worker", metavar="ID", help="What this worker wrote: its id, or its agent's or session's name.")
@click.option("--component", metavar="NAME", help="Only what this part says: workers, gateway, channel, …")
@click.option("--since", metavar="DURATION", callback=_span, help="Only what was written in the last 90s, 10m, 2h, 1d …")
@click.option("--lines", metavar="N", type=click.IntRange(0), help="The last so many lines (100, all with --since).")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON lines.")
def show_logs(
    follow: bool, worker: str | None, component: str | None, since: float | None, lines: int | None, as_json: bool
) -> None:
    """Show the log of the host, or what a worker wrote.

    Secrets are shown as ***. Reads files, and changes nothing: a host may run or not.
    """
    from nanoclaw_core.cli.logview import show_host, show_worker

    if worker is None:
        show_host(_settings(), follow=follow, component=component, since=since, lines=lines, as_json=as_json)
    elif component or since or as_json:
        raise click.UsageError("A worker's output has neither components nor times: --worker goes with -f and --lines alone.")
    else:
        show_worker(_settings(), worker, follow=follow, lines=lines)


_FOR_WHOM = click.option(
    "--system/--user", "is_system", default=None, help="The machine's service manager (the default for root), or your own."
)


@nanoclaw.group()
def service() -> None:
    """Let systemd or launchd keep the host running.

    The service runs this NanoClaw on this home. It starts with the machine or your session, and again after a crash.
    """


@service.command("install")
@_FOR_WHOM
@click.option("--print", "only_print", is_flag=True, help="Print the unit or property list, and change nothing.")
def install_service(is_system: bool | None, only_print: bool) -> None:
    """Install the service, or renew it, and start it."""
    from nanoclaw_core.cli.service import install

    install(_settings(), is_system, only_print)


@service.command("remove")
@_FOR_WHOM
def remove_service(is_system: bool | None) -> None:
    """Stop the service and remove it. The home stays."""
    from nanoclaw_core.cli.service import remove

    remove(_settings(), is_system)


@service.command("status")
@_FOR_WHOM
def service_status(is_system: bool | None) -> int:
    """Show how the service is.

    The exit code is 0 while it runs, else 5.
    """
    from nanoclaw_core.cli.service import show_status

    return show_status(_settings(), is_system)


@nanoclaw.group()
def backup() -> None:
    """Back up the home, and restore it.

    A backup is one file with everything: databases, conversations, the agents' folders, settings. Whoever has it can read that.
    """


_BACKUP_FILE = click.Path(dir_okay=False, path_type=Path, allow_dash=True)


@backup.command("create")
@click.argument("file", required=False, type=_BACKUP_FILE)
@click.option("--without-secrets", is_flag=True, help="Leave out the secret store and .env.")
@click.option("--without-workspaces", is_flag=True, help="Leave out the agents' folders and memories. Needs no container.")
@click.option("--with-logs", is_flag=True, help="Take logs/ along.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as one JSON object.")
def create_backup(
    file: Path | None, without_secrets: bool, without_workspaces: bool, with_logs: bool, force: bool, as_json: bool
) -> None:
    """Back the home up into FILE, while the host runs or not.

    Without FILE, one named after the time is made in this folder; '-' writes to standard output.
    """
    from nanoclaw_core.cli.backup import Choice, create

    choice = Choice(secrets=not without_secrets, workspaces=not without_workspaces, logs=with_logs, force=force)
    create(_settings(), file, choice, as_json)


@backup.command("verify")
@click.argument("file", type=_BACKUP_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
def verify_backup(file: Path, as_json: bool) -> None:
    """Check that FILE is whole, and that this version can restore it.

    Reads it once: every checksum, every database.
    """
    from nanoclaw_core.cli.backup import verify

    verify(file, as_json)


@backup.command("restore")
@click.argument("file", type=_BACKUP_FILE)
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Restore there instead of to the home.")
@click.option("--replace", is_flag=True, help="Move a home that is there aside, and be the same installation.")
def restore_backup(file: Path, home: Path | None, replace: bool) -> None:
    """Restore FILE into a home that is empty or not there yet.

    Nothing is changed unless all of it can be restored.
    """
    from nanoclaw_core.cli.backup import restore

    restore(_settings(), file, home, replace)


@nanoclaw.group()
def image() -> None:
    """The container image that agents work in."""


@image.command()
@click.option("--verbose", is_flag=True, help="Print the whole output of the build.")
def build(verbose: bool) -> None:
    """Build the worker image, unless it is there already."""
    from nanoclaw_core.cli.image import build

    build(_settings(), verbose)


@nanoclaw.command()
def version() -> None:
    """Print the version."""
    click.echo(f"nanoclaw {__version__}")
