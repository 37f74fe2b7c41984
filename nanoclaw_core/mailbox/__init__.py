"""One session's two files: `inbound.db`, what the agent is to hear, and `outbound.db`, what it said and did."""

from nanoclaw_core.mailbox.box import Mailbox, Mailboxes
from nanoclaw_core.mailbox.files import MailboxBroken, MailboxUnusable
from nanoclaw_core.mailbox.records import Call, NewCall, NewOutbound, NewRow, OutstandingPush, Receipts, Spoken, row_id

__all__ = [
    "Call",
    "Mailbox",
    "MailboxBroken",
    "MailboxUnusable",
    "Mailboxes",
    "NewCall",
    "NewOutbound",
    "NewRow",
    "OutstandingPush",
    "Receipts",
    "Spoken",
    "row_id",
]
