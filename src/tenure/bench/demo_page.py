"""The demo's page: steps, loss curves and verdicts in one file that needs nothing else.

Knows no runtime. Called by the demo.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenure.types import Verdict

WIDTH, HEIGHT, MARGIN = 640, 240, 44
COLOURS = ("#c2410c", "#0f766e")
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:900px;margin:2rem auto;padding:0 1rem;color:#1c1917;background:#fff}
table{border-collapse:collapse;width:100%;margin:1rem 0}td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #e7e5e4;vertical-align:top}
th{font-weight:600;color:#57534e}.n{font-variant-numeric:tabular-nums;white-space:nowrap}.passed{color:#0f766e}.failed{color:#c2410c}
figure{margin:1.5rem 0}figcaption,.dim{color:#78716c}svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#57534e}
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the story with its number."""

    title: str
    number: str
    note: str


@dataclass(frozen=True, slots=True)
class Night:
    """What one night left: status, reason, seconds by stage, verdict and the loss at each step."""

    learner: str
    status: str
    reason: str
    version: str
    seconds: Mapping[str, float]
    verdict: Verdict | None
    losses: tuple[float, ...]


def write_page(path: Path, steps: Sequence[Step], nights: Sequence[Night], *, seconds: float) -> None:
    """Write the page."""
    rows = "".join(
        f"<tr><td class=n>{i}</td><td>{_text(s.title)}</td><td class=n>{_text(s.number)}</td><td class=dim>{_text(s.note)}</td></tr>"
        for i, s in enumerate(steps, start=1)
    )
    nights_html = "".join(_night(night) for night in nights)
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Tenure: the loop closes</title><style>{STYLE}</style>"
        f"<h1>The loop closes</h1><p class=dim>{seconds / 60:.1f} minutes on this machine, nothing scripted.</p>"
        f"<table><tr><th></th><th>step</th><th>result</th><th></th></tr>{rows}</table>"
        f"<h2>Loss by step</h2>{_curves([n for n in nights if n.losses])}{nights_html}</html>"
    )
    path.write_text(page, "utf8")


def _night(night: Night) -> str:
    times = ", ".join(f"{stage} {value:.0f} s" for stage, value in night.seconds.items())
    checks = "".join(
        f"<tr><td>{_text(c.suite)}</td><td>{_text(c.name)}</td><td class='{_text(c.outcome.value.split()[0])}'>{_text(c.outcome.value)}</td>"
        f"<td class=n>{c.value:+.3f}</td><td class=n>{'' if c.lower is None else f'{c.lower:+.3f}'}</td>"
        f"<td class=n>{c.threshold:+.3f}</td><td class=n>{c.num_items}</td><td class=dim>{_text(c.reason)}</td></tr>"
        for c in (night.verdict.checks if night.verdict else ())
    )
    table = (
        "<table><tr><th>suite</th><th>check</th><th>outcome</th><th>value</th><th>lower</th><th>threshold</th><th>n</th><th></th></tr>"
        f"{checks}</table>"
        if checks
        else ""
    )
    return f"<h2>{_text(night.learner)}: {_text(night.status)}</h2><p>{_text(night.reason)}</p><p class=dim>{_text(times)}</p>{table}"


def _curves(nights: Sequence[Night]) -> str:
    """Training loss by step, one line a night, as inline SVG."""
    if not nights:
        return "<p class=dim>no night trained</p>"
    top = max(max(night.losses) for night in nights) or 1.0
    longest = max(len(night.losses) for night in nights)
    lines, legend = [], []
    for number, night in enumerate(nights):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{MARGIN + i * (WIDTH - 2 * MARGIN) / max(1, longest - 1):.1f},{HEIGHT - MARGIN - loss / top * (HEIGHT - 2 * MARGIN):.1f}"
            for i, loss in enumerate(night.losses)
        )
        lines.append(f"<polyline points='{points}' fill=none stroke='{colour}' stroke-width=1.6 />")
        legend.append(f"<text x={WIDTH - 150} y={20 + 16 * number} style='fill:{colour}'>{_text(night.learner)}</text>")
    axes = (
        f"<path d='M{MARGIN},{MARGIN} V{HEIGHT - MARGIN} H{WIDTH - MARGIN}' fill=none stroke='#a8a29e' />"
        f"<text x=4 y={MARGIN + 4}>{top:.2f}</text><text x=4 y={HEIGHT - MARGIN}>0</text>"
        f"<text x={WIDTH - MARGIN - 40} y={HEIGHT - 14}>step {longest}</text>"
    )
    return (
        f"<figure><svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img>{axes}{''.join(lines)}{''.join(legend)}</svg></figure>"
    )


def _text(value: object) -> str:
    return html.escape(str(value))
