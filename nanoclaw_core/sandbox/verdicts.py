"""Makes one verdict on a mount out of what all policies say of it."""

from __future__ import annotations

from collections.abc import Mapping

from nanoclaw_core.models import MountDecision, MountVerdict


def combined(verdicts: Mapping[str, MountVerdict]) -> MountVerdict:
    """Every policy must allow a mount, any may refuse or narrow it; where there is no policy, nobody has allowed it.

    The reasons are those of the policies that decided, each with its policy's name.

    >>> allowed = MountVerdict(decision=MountDecision.ALLOW)
    >>> narrowed = MountVerdict(decision=MountDecision.NARROW, reason="an archive")
    >>> print(combined({"mine": allowed, "archives": narrowed}))
    MountVerdict(decision=<MountDecision.NARROW: 'narrow'>, reason='archives: an archive')
    """
    if not verdicts:
        return MountVerdict(decision=MountDecision.REFUSE, reason="no policy allows it")
    for decision in (MountDecision.REFUSE, MountDecision.NARROW):
        reasons = [f"{name}: {verdict.reason}" for name, verdict in verdicts.items() if verdict.decision is decision]
        if reasons:
            return MountVerdict(decision=decision, reason="; ".join(reasons))
    return MountVerdict(decision=MountDecision.ALLOW)
