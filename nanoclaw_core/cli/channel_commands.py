"""`nanoclaw channel ...` and `nanoclaw wiring ...`: the commands and their options."""

from __future__ import annotations

import click

from nanoclaw_core.cli.base import Group, settings

_RESTART = click.option("--restart", is_flag=True, help="Restart a host that runs, so that it takes effect at once.")


@click.group(cls=Group)
def channel() -> None:
    """Set up chat platforms, and switch them on and off.

    Changes take effect at the next start of the host.
    """


@channel.command("setup")
@click.argument("name")
@click.option("--token-stdin", is_flag=True, help="Read its one secret, such as a bot's token, from standard input.")
@click.option("--no-check", is_flag=True, help="Do not ask the platform whether it accepts the credentials.")
@_RESTART
def setup_channel(name: str, token_stdin: bool, no_check: bool, restart: bool) -> None:
    """Set a channel up: credentials, plugin, pairing.

    Says what to do, asks for what is needed, tries it, and keeps it. On a server, set its variables in the environment of this
    command, or use --token-stdin. The same command again changes what is set.
    """
    from nanoclaw_core.cli.setup import Wish, set_up

    set_up(settings(), name, Wish(token_stdin=token_stdin, check=not no_check, restart=restart))


@channel.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_channels(as_json: bool) -> None:
    """List the channels: what each needs, and how it is."""
    from nanoclaw_core.cli.channels import show

    show(settings(), as_json)


@channel.command("check")
@click.argument("name", required=False)
def check_channel(name: str | None) -> int:
    """Ask the platforms whether they accept the credentials.

    Asks all that are set up, or the one with NAME. The exit code is 1 when one of them says no or cannot be asked.
    """
    from nanoclaw_core.cli.channels import check

    return check(settings(), name)


@channel.command("pair")
@click.argument("name")
def pair_channel(name: str) -> None:
    """Print a code that makes whoever sends it an owner.

    It is to be sent to the channel in a private chat, within ten minutes. Earlier codes of the channel are void.
    """
    from nanoclaw_core.cli.channels import pair

    pair(settings(), name)


@channel.command("enable")
@click.argument("name")
@_RESTART
def enable_channel(name: str, restart: bool) -> None:
    """Switch a channel on again, and enable its plugin."""
    from nanoclaw_core.cli.channels import enable

    enable(settings(), name, restart)


@channel.command("disable")
@click.argument("name")
@_RESTART
def disable_channel(name: str, restart: bool) -> None:
    """Switch a channel off. It stays installed and set up."""
    from nanoclaw_core.cli.channels import disable

    disable(settings(), name, restart)


@click.group(cls=Group)
def wiring() -> None:
    """Let agents hear chats.

    A chat that is not wired is not heard: nothing that is said there is stored. Changes take effect at once.
    """


@wiring.command("create")
@click.option("--channel", "channel_name", metavar="NAME", required=True, help="The chat's channel, like telegram.")
@click.option("--chat", metavar="ID", required=True, help="The chat: its id, or the name of a known one.")
@click.option("--account", metavar="NAME", help="The bot's account, where the channel has several.")
@click.option("--agent", metavar="NAME", help="The agent; without it, the main one.")
@click.option(
    "--mode",
    type=click.Choice(["mention", "pattern"]),
    default="mention",
    help="Answer what mentions the agent (the default), or what matches a pattern.",
)
@click.option("--trigger", metavar="TEXT", help="The word that mentions it (@ and its name), or the pattern ('.': all).")
def create_wiring(channel_name: str, chat: str, account: str | None, agent: str | None, mode: str, trigger: str | None) -> None:
    """Let an agent hear a chat, or change how it engages there.

    To find a group's id, write something in it while the host runs: `nanoclaw wiring list` shows which chats wrote.
    """
    from nanoclaw_core.cli.wirings import create

    create(settings(), channel=channel_name, chat=chat, account=account, agent=agent, mode=mode, trigger=trigger)


@wiring.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def list_wirings(as_json: bool) -> None:
    """List the wirings, and the chats that wrote without one.

    Of the latter only ids, counts and times are known.
    """
    from nanoclaw_core.cli.wirings import show

    show(settings(), as_json)


@wiring.command("remove")
@click.argument("id", metavar="ID")
def remove_wiring(id: str) -> None:  # noqa: A002  # what the person typed
    """Let an agent not hear a chat any more.

    ID is the wiring's in `nanoclaw wiring list`; its beginning is enough.
    """
    from nanoclaw_core.cli.wirings import remove

    remove(settings(), id)
