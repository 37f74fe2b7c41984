"""`nanoclaw channel setup`: asks for what a manifest names, tries it, and keeps it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import anyio
import click

from nanoclaw_core import secrets
from nanoclaw_core.cli.channels import (
    CheckFailed,
    Found,
    ask_platform,
    find_channel,
    print_code,
    say_whether_it_listens,
    switch_on,
)
from nanoclaw_core.cli.restart import offer_restart
from nanoclaw_core.cli.secret import read_stdin, say_mended
from nanoclaw_core.cli.text import plain
from nanoclaw_core.errors import CredentialRefused, ValueRefused
from nanoclaw_core.models import Manifest, SetupField
from nanoclaw_core.settings import Settings, read_env_file, write_env_file

_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How the person wants it done."""

    token_stdin: bool
    check: bool
    restart: bool


def set_up(settings: Settings, name: str, wish: Wish) -> None:
    """Set a channel up. Nothing is stored before all of it is known to be good.

    Raises:
        ChannelMissing, PluginUnusable: there is no such channel. ValueRefused: a value has not the form that it must have.
            CredentialRefused: the platform says no. CheckFailed: it could not be asked.
    """
    found = find_channel(settings, name)
    manifest = found.factory.manifest
    _introduce(found)
    given = _given(manifest, wish)
    given, who = _agreed(settings, found, given, wish)
    is_kept = _keep(settings, manifest, given)
    is_news = switch_on(settings, found) or is_kept
    click.echo(f"{name} is set up{f': it is {who}' if who else ''}.")
    if is_news:
        offer_restart(settings, wish.restart)
    if manifest.pairs:
        print_code(settings, name, who.partition(",")[0])
        if not is_news:
            say_whether_it_listens(settings, name)


def _introduce(found: Found) -> None:
    factory = found.factory
    click.echo(f"{factory.name}: {plain(factory.summary)} ({found.offer.plugin})", err=True)
    for number, step in enumerate(factory.manifest.steps, 1):
        click.echo(f"  {number}. {plain(step)}", err=True)
    if factory.manifest.homepage:
        click.echo(f"  More: {plain(factory.manifest.homepage)}", err=True)


def _given(manifest: Manifest, wish: Wish) -> dict[str, str]:
    """What is new here without asking anybody: in the environment, or on standard input."""
    known = {field.variable: os.environ[field.variable].strip() for field in manifest.fields if os.environ.get(field.variable)}
    if wish.token_stdin:
        field = _the_secret(manifest)
        known[field.variable] = read_stdin(field.variable).strip()
    for field in manifest.fields:
        if field.variable in known:
            _require_form(field, known[field.variable])
    return known


def _the_secret(manifest: Manifest) -> SetupField:
    """The field that --token-stdin is about."""
    found = [field for field in manifest.fields if field.secret and field.required]
    if len(found) != 1:
        names = ", ".join(field.variable for field in found) or "no secret"
        raise click.UsageError(f"--token-stdin is for a channel with one secret; this one needs {names}: use the environment.")
    return found[0]


def _agreed(settings: Settings, found: Found, given: dict[str, str], wish: Wish) -> tuple[dict[str, str], str]:
    """The new values and whose they are, once the platform has accepted them; at a terminal, asked for until it does."""
    manifest = found.factory.manifest
    is_terminal = sys.stdin.isatty() and not wish.token_stdin
    new = given
    for number in range(_TRIES):
        if is_terminal:
            new = {**new, **_ask({**settings.variables, **new}, manifest, given, is_again=number > 0)}
        _require_all(settings, manifest, new)
        if not wish.check:
            return new, ""
        try:
            return new, anyio.run(ask_platform, found.factory, _with_what_is_set(settings, manifest, new))
        except CredentialRefused as error:
            is_askable = any(field.secret and field.variable not in given for field in manifest.fields)
            if not is_terminal or not is_askable or number == _TRIES - 1:
                raise CredentialRefused(f"{error} Nothing was stored.") from None
            click.echo(f"{error} Try again, or leave with ctrl-C.", err=True)
        except CheckFailed as error:
            reason = str(error).rstrip(".")
            raise CheckFailed(f"{reason}. Nothing was stored. Try again; --no-check keeps it unasked.") from None
    raise AssertionError("the last try ends above")


def _ask(current: Mapping[str, str], manifest: Manifest, given: Mapping[str, str], *, is_again: bool) -> dict[str, str]:
    """Ask for every field that was not given; an empty answer leaves what is set, or its default."""
    answers: dict[str, str] = {}
    for field in manifest.fields:
        if field.variable in given:
            click.echo(f"{field.label}: taken from {field.variable} in the environment.", err=True)
        elif value := _ask_field(field, current.get(field.variable, ""), is_again=is_again):
            answers[field.variable] = value
    return answers


def _ask_field(field: SetupField, current: str, *, is_again: bool) -> str:
    """A value of the right form, or '' to leave it as it is."""
    for hint in (field.where, field.help):
        if hint and not is_again:
            click.echo(f"  {plain(hint)}", err=True)
    standing = ("" if is_again else current and "***") if field.secret else current or field.default
    ways = f" [{plain(standing)}]" if standing else "" if field.required else " (optional)"
    while True:
        prompt = f"{field.label}{' (not shown)' if field.secret else ''}{ways}"
        value: str = click.prompt(prompt, hide_input=field.secret, default="", show_default=False, err=True).strip()
        if not value and (standing or not field.required):
            return ""
        try:
            _require_form(field, value)
        except ValueRefused as error:
            click.echo(f"{error.reason[0].upper()}{error.reason[1:]}.", err=True)
        else:
            return value


def _require_form(field: SetupField, value: str) -> None:
    """Raises ValueRefused for a value that cannot be right; it says what would be, and never shows a secret."""
    secrets.require_value(field.variable, value)
    if not value.isprintable():
        raise ValueRefused(field.variable, "it must be one line without control characters")
    if field.pattern and not re.fullmatch(field.pattern, value):
        raise ValueRefused(field.variable, f"it must be {field.form or f'like {field.pattern}'}")


def _require_all(settings: Settings, manifest: Manifest, new: Mapping[str, str]) -> None:
    together = _with_what_is_set(settings, manifest, new)
    lacking = [field for field in manifest.fields if field.required and not together.get(field.variable)]
    if not lacking:
        return
    names = ", ".join(field.variable for field in lacking)
    stdin = " or give it on standard input with --token-stdin" if [field.secret for field in lacking] == [True] else ""
    raise click.UsageError(f"{names} is missing. Without a terminal, set it in the environment of this command{stdin}.")


def _with_what_is_set(settings: Settings, manifest: Manifest, new: Mapping[str, str]) -> dict[str, str]:
    together = {field.variable: field.default for field in manifest.fields if field.default}
    for field in manifest.fields:
        if value := new.get(field.variable) or settings.variables.get(field.variable, ""):
            together[field.variable] = value
    return together


def _keep(settings: Settings, manifest: Manifest, new: Mapping[str, str]) -> bool:
    """Secrets go to the secret store, everything else to the home's `.env`; False where all of it was there already."""
    secret = {field.variable for field in manifest.fields if field.secret}
    known = {**read_env_file(settings.home / ".env"), **settings.stored}
    news = {name: value for name, value in new.items() if known.get(name) != value or (name in secret - settings.stored.keys())}
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in sorted(secret & news.keys()):
        say_mended(secrets.put(settings.home, name, news[name]))
    if public := {name: value for name, value in news.items() if name not in secret}:
        write_env_file(settings.home / ".env", public)
    return bool(news)
