"""`nanoclaw plugin check`: prints what was found about a package."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from nanoclaw_core.cli import logs
from nanoclaw_core.cli.table import show_findings
from nanoclaw_core.conformance import Judgement, Verdict, judge


def check(target: str, report: Path | None, as_json: bool) -> int:
    """Judge it, print that, and return the exit code.

    Raises:
        UnknownName, PluginUnusable: there is nothing to be judged.
    """
    logs.silence()
    if not as_json:
        click.echo(f"Judging {target} …", err=True)
    judgement = judge(target)
    text = json.dumps({**asdict(judgement), "good": judgement.is_good}, indent=2, ensure_ascii=False)
    if report is not None:
        report.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(text)
    else:
        _show(judgement)
    return 0 if judgement.is_good else 1


def _show(judgement: Judgement) -> None:
    rows = [(finding.verdict.value, finding.subject, finding.why, "") for finding in judgement.findings]
    counts = Counter(finding.verdict for finding in judgement.findings)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    show_findings(rows, (), f"{judgement.name} {judgement.version}: {summary}")
