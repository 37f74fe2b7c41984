"""`nanoclaw secret ...`: the commands and their options."""

from __future__ import annotations

import click

from nanoclaw_core.cli.base import Group, settings


@click.group(cls=Group)
def secret() -> None:
    """Keep credentials in the home, for the host alone.

    They are files that only you can read, in secrets/ in the home. A variable of the same name in the environment wins over a
    secret, and a secret over .env.
    """


@secret.command("set")
@click.argument("name")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the value from standard input, to its end.")
def set_secret(name: str, from_stdin: bool) -> None:
    """Keep a secret; at a terminal, ask for it without showing it.

    NAME is the variable that a plugin asks for, like TELEGRAM_TOKEN. An earlier value is replaced.
    """
    from nanoclaw_core.cli.secret import put

    put(settings(), name, from_stdin)


@secret.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_secrets(as_json: bool) -> None:
    """List the secrets: names, when they were set and who uses them.

    Never shows a value.
    """
    from nanoclaw_core.cli.secret import show

    show(settings(), as_json)


@secret.command("remove")
@click.argument("name")
def remove_secret(name: str) -> None:
    """Forget a secret."""
    from nanoclaw_core.cli.secret import remove

    remove(settings(), name)
