"""What a chat is told when there is no answer: what happened, and what to do."""

from __future__ import annotations

import shlex

from nanoclaw_core.ledger.books import BUDGET_WORDS
from nanoclaw_core.models import Failure, FailureKind

_MODEL = {
    400: "The model provider could not read the request",
    401: "The model provider refused the credential. Whoever runs this assistant must set a valid key",
    402: "The account at the model provider has no credit left",
    403: "The model provider, or a rule on this host, does not allow this request",
    404: "The model provider does not know this model",
    413: "The conversation has become too long for the model provider",
    429: "The model provider limits how much may be asked; try again in a few minutes",
    500: "The model provider has a fault of its own; try again in a few minutes",
    503: "The model provider is not available; try again in a few minutes",
    504: "The model provider did not answer in time; try again in a few minutes",
    529: "The model provider is overloaded; try again in a few minutes",
}

NO_ANSWER = "(The agent has finished without an answer.)"
STOPPED = "(Stopped.)"
NOTHING_RUNS = "(Nothing is running.)"


def of_failure(failure: Failure) -> str:
    """The notice for a turn that failed.

    >>> print(of_failure(Failure(kind=FailureKind.MODEL, detail="API Error: 529 overloaded", status=529)))
    ⚠️ I could not answer. The model provider is overloaded; try again in a few minutes. (API Error: 529 overloaded)
    """
    if failure.kind is FailureKind.INTERRUPTED:
        return STOPPED
    _, ours, reason = failure.detail.partition(BUDGET_WORDS)
    if ours and failure.status in (402, 429):
        return f"⚠️ I could not answer. {ours}{reason}"
    cause = _MODEL.get(failure.status or 0, "The model provider could not be reached")
    if failure.kind is FailureKind.ENGINE:
        cause = "The agent's engine broke off; send your message again"
    return f"⚠️ I could not answer. {cause}. ({failure.detail})"


def of_lost_worker(agent: str, attempts: int, reason: str) -> str:
    """The notice for messages whose workers died too often."""
    cause = reason.rstrip(".")
    return (
        f"⚠️ I could not answer: the worker broke {attempts} times on this message, so I left it. The last time: {cause}. "
        "Send it again, perhaps in other words, or ask whoever runs this assistant to look with "
        f"`nanoclaw logs --worker {shlex.quote(agent)}`."
    )


def of_waiting(reason: str) -> str:
    """The notice for messages that wait for something that a person must mend."""
    return f"⏳ Your message is kept and will be answered as soon as possible. Until then: {reason}"
