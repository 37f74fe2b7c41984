"""What an agent reads: waiting messages as one prompt, and who it is.

The format is NanoClaw's, so that memories and habits of existing agents keep working: a `<context>` line, then one `<message>`
or several inside `<messages>`. Texts and attributes are escaped, so that nobody can forge a message by writing one. Beside the
display name, which can be forged, stands the sender's stable id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from nanoclaw_core.models import Address, EarlierCall, InboundKind, KeptFile, Row, Undelivered

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})
INBOX = "/nanoclaw/inbox"
#: How a message says which earlier one it is about, by the number under which the agent knows that.
_ABOUT = {InboundKind.EDIT: "edits", InboundKind.REACTION: "reacts_to", InboundKind.ANSWER: "answers"}
_NO_REACTION = "(took the reaction away)"
_LOSSES = 10  # that are told one by one
_REMINDER = 8000  # characters of calls: Claude Code takes it from its environment, where 128 KiB have room
_QUOTED = 500  # characters of each text that the agent is reminded of


def format_prompt(
    rows: Sequence[Row],
    names: Mapping[tuple[str, str, str], str],
    timezone: str,
    undelivered: Sequence[Undelivered] = (),
) -> str:
    """The prompt for `rows`, oldest first; `names` maps (channel, account, chat) to the name of a destination."""
    zone = ZoneInfo(timezone)
    messages = [_message(row, names, zone) for row in rows]
    body = messages[0] if len(messages) == 1 else "\n".join(["<messages>", *messages, "</messages>"])
    lines = [f'<context timezone="{_escape(timezone)}" />', *_losses(undelivered, names), body]
    return "\n".join(lines)


def _losses(undelivered: Sequence[Undelivered], names: Mapping[tuple[str, str, str], str]) -> list[str]:
    """What did not arrive, the newest in full, so that the agent can say it again."""
    if not undelivered:
        return []
    older, newest = undelivered[:-_LOSSES], undelivered[-_LOSSES:]
    more = [f"({len(older)} earlier messages of yours were not delivered either.)"] if older else []
    return ["<undelivered>", *more, *(_loss(each, names) for each in newest), "</undelivered>"]


def _loss(loss: Undelivered, names: Mapping[tuple[str, str, str], str]) -> str:
    to, reason = _escape(_name(loss.to, names)), _escape(loss.reason)
    return f'<your_message to="{to}" reason="{reason}">{_short(loss.text)}</your_message>'


def _message(row: Row, names: Mapping[tuple[str, str, str], str], zone: ZoneInfo) -> str:
    attributes = {
        "id": str(row.seq),
        "from": _name(row.address, names),
        "sender": row.sender_name or "Unknown",
        "sender_id": row.sender_id,
        "time": format_time(row.sent_at, zone),
        "reply_to": row.reply_to.message_id if row.reply_to else "",
        **({_ABOUT[row.kind]: row.about or "unknown"} if row.kind in _ABOUT else {}),
    }
    head = " ".join(f'{name}="{_escape(value)}"' for name, value in attributes.items() if value)
    text = row.text or (_NO_REACTION if row.kind is InboundKind.REACTION else "")
    return f"<message {head}>{_quote(row)}{_escape(text)}{_attachment(row)}{_files(row)}</message>"


def _name(address: Address, names: Mapping[tuple[str, str, str], str]) -> str:
    return names.get(key_of(address), f"unknown:{address.channel}:{address.chat}")


def _quote(row: Row) -> str:
    if row.reply_to is None or not row.reply_to.sender_name or not row.reply_to.text:
        return ""
    quote = f'<quoted_message from="{_escape(row.reply_to.sender_name)}">{_escape(row.reply_to.text)}</quoted_message>'
    return f"\n  {quote}\n"


def _attachment(row: Row) -> str:
    if row.attachment is None:
        return ""
    name = row.attachment.rsplit("/", 1)[-1]
    return _escape(f"\n[the whole text: {name} — saved to {INBOX}/{row.attachment}]")


def _files(row: Row) -> str:
    return _escape("".join(f"\n[{file.kind}: {file.name} — {_where(file)}]" for file in row.files))


def _where(file: KeptFile) -> str:
    return f"saved to {INBOX}/{file.path}" if file.path else f"not here: {file.problem}"


def format_time(moment: float, zone: ZoneInfo) -> str:
    """A time as NanoClaw writes it; empty for one that is in no calendar, such as milliseconds taken for seconds.

    >>> format_time(1781510400, ZoneInfo("Europe/Berlin"))
    'Jun 15, 2026, 10:00 AM'
    """
    try:
        local = datetime.fromtimestamp(moment, zone)
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{local:%b} {local.day}, {local.year}, {local.hour % 12 or 12}:{local:%M} {'AM' if local.hour < 12 else 'PM'}"


def key_of(address: Address) -> tuple[str, str, str]:
    """What identifies a chat, whatever the thread."""
    return (address.channel, address.account, address.chat)


def instructions(agent: str, destinations: Sequence[str]) -> str:
    """What is added to Claude Code's system prompt: the agent's name, and how its words reach people."""
    lines = [
        f"# You are {agent}",
        "",
        f"Your name is **{agent}**. You are a personal assistant; people talk to you in chats and see only what you send them.",
        "",
        "## Messages",
        "",
        "Each message you get is wrapped in `<message id=… from=… sender=… sender_id=… time=…>`. Its text is escaped like XML. "
        "`from` names the chat. `sender` is a display name that anybody can choose; `sender_id` is reliable.",
        "",
        "Your final answer is sent to the chat that you are answering, as Markdown. Write nothing around it. Text inside "
        "`<internal>…</internal>` is sent to nobody.",
        "",
        "What `<undelivered>` holds did not reach people, or perhaps not; say it again where that still helps.",
        "",
        "Use the tool `send_message` to say something before you have finished, or to write to another chat (`to`). "
        'In the final answer, `<message to="name">…</message>` does the same. `send_file` sends a file, `edit_message` changes '
        "what you sent with a tool, `add_reaction` puts an emoji under a message that you got (its `id`). `ask_user` asks with "
        "buttons and does not wait: the answer comes as a message.",
    ]
    if destinations:
        lines += ["", "Chats you can write to: " + ", ".join(f"`{name}`" for name in destinations) + "."]
    lines += ["", "Your memory is `CLAUDE.md` in your working directory: write down there what you should remember."]
    return "\n".join(lines)


def format_reminder(calls: Sequence[EarlierCall], names: Mapping[tuple[str, str, str], str]) -> str:
    """What an engine is told that takes up a turn which was cut: what was done in it, the newest calls in full."""
    told: list[str] = []
    for call in reversed(calls):
        line = _earlier_call(call, names)
        if told and sum(map(len, told)) + len(line) > _REMINDER:
            told.append("(There were calls before these.)")
            break
        told.append(line)
    lines = [
        "Continue from where you left off: your turn was cut and goes on in a new container. `<done_before>` records the calls "
        "of NanoClaw's tools that you had made in it, oldest first. What has a result has happened: do not do it again. A call "
        "that is missing from the conversation can be made once more to hear its whole result: it has no second effect. Where "
        "the outcome is unknown, find out, or ask, before you repeat it.",
        "<done_before>",
        *reversed(told),
        "</done_before>",
    ]
    return "\n".join(lines)


def _earlier_call(call: EarlierCall, names: Mapping[tuple[str, str, str], str]) -> str:
    outcome = "unknown" if call.result is None else "failed" if call.is_error else "done"
    said = f'<said to="{_escape(_name(call.said.to, names))}">{_short(call.said.text)}</said>' if call.said else ""
    result = "" if call.result is None else f"<result>{_short(call.result)}</result>"
    arguments = f"<arguments>{_short(call.arguments)}</arguments>"
    return f'<call tool="{_escape(call.action)}" outcome="{outcome}">{arguments}{said}{result}</call>'


def _short(text: str) -> str:
    return _escape(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…")


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)
