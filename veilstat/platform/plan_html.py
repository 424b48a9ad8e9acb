"""A plan as HTML, for notebooks."""

from __future__ import annotations

import html

from .plan import Plan
from .plan_text import OPENS, disclosure_table, sections


def plan_html(plan: Plan) -> str:
    """The whole plan: the same sentences and table as its text."""
    parts = [f"<h4>Plan of <code>{html.escape(plan.title)}</code></h4>", f'<p style="color:gray">digest {plan.digest[:16]}…</p>']
    for title, lines in sections(plan):
        parts.append(f"<p><b>{html.escape(title)}</b></p>")
        if title == OPENS:
            first, *lines = lines
            parts.append(f"<p>{html.escape(first)}</p>" + disclosure_table(plan).html())
        if lines:
            parts.append("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>")
    return "".join(parts)
