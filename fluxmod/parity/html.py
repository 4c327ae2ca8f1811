"""One self-contained page: verdicts, tables, and the error by layer as a plot."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from .compare import Row
from .criteria import CRITERIA
from .report import Report

__all__ = ["page"]

_STYLE = """
:root { --ink: #1c2330; --soft: #667085; --line: #e4e7ec; --good: #067647; --bad: #b42318;
        --skip: #98a2b3; --paper: #ffffff; --shade: #f8fafc; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 40px 24px 80px; color: var(--ink);
       background: var(--paper); 
       font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 40px 0 8px; }
p, .soft { color: var(--soft); margin: 4px 0 14px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.num { font-family: ui-monospace, Menlo, Consolas, monospace; white-space: nowrap; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.skip { color: var(--skip); }
code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 12.5px; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--soft); }
svg { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; width: 100%; }
svg text { font: 11px ui-monospace, Menlo, Consolas, monospace; fill: var(--ink); }
svg .axis { fill: var(--soft); }
"""


def page(reports: Sequence[Report]) -> str:
    """Return an HTML document for the reports; it loads nothing from elsewhere."""
    good = sum(report.passed for report in reports)
    environment = reports[0].environment if reports else {}
    facts = " &middot; ".join(f"{html.escape(k)} {html.escape(v)}" for k, v in environment.items())
    body = [
        "<h1>Parity certificate</h1>",
        f"<p>{good} of {len(reports)} equal. {facts}</p>",
        _overview(reports) if len(reports) > 1 else "",
        *[_report(report) for report in reports],
        _legend(),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>fluxmod parity</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _overview(reports: Sequence[Report]) -> str:
    levels = [level for level in CRITERIA if any(level in r.by_level() for r in reports)]
    head = "".join(f"<th>{level} {CRITERIA[level].shows}</th>" for level in levels)
    rows = []
    for report in reports:
        name = html.escape(report.model)
        cells = "".join(_cell(report, level) for level in levels)
        rows.append(f'<tr><td><a href="#{name}">{name}</a></td>{cells}</tr>')
    return f"<table><tr><th>model</th>{head}</tr>{''.join(rows)}</table>"


def _cell(report: Report, level: str) -> str:
    rows = report.by_level().get(level, ())
    worst = report.worst(level)
    if worst is None:
        why = html.escape(rows[0].note) if rows else "not run"
        return f'<td class="skip" title="{why}">skip</td>'
    passed = all(row.passed is not False for row in rows)
    kind, word = ("good", "pass") if passed else ("bad", "FAIL")
    error = _number(worst.error)
    return f'<td><span class="{kind}">{word}</span> <span class="soft">{error}</span></td>'


def _report(report: Report) -> str:
    name = html.escape(report.model)
    verdict = (
        '<span class="good">equal</span>' if report.passed else '<span class="bad">NOT equal</span>'
    )
    parts = [f'<h2 id="{name}">{name}: {verdict}</h2>']
    if report.located is not None:
        parts.append(
            f"<p>First fault: <code>{html.escape(report.located or 'own forward')}</code></p>"
        )
    parts += [f"<p>{html.escape(note)}</p>" for note in report.notes]
    parts += [_level_table(report), _plot(report), _all_rows(report)]
    return "".join(parts)


def _level_table(report: Report) -> str:
    rows = []
    for level, members in report.by_level().items():
        worst = report.worst(level)
        if worst is None:
            note = html.escape(members[0].note)
            rows.append(
                f"<tr><td>{level} {CRITERIA[level].shows}</td>"
                f'<td class="skip">skip</td><td colspan="3" class="soft">{note}</td></tr>'
            )
            continue
        place = html.escape(f"{worst.path}: {worst.what}" if worst.path else worst.what)
        rows.append(
            f"<tr><td>{level} {CRITERIA[level].shows}</td>{_cell(report, level)}"
            f'<td class="num">{_number(worst.limit)}</td>'
            f"<td><code>{place}</code> <span class='soft'>{html.escape(worst.where)}</span></td>"
            f'<td class="num">{len(members)}</td></tr>'
        )
    head = "<tr><th>level</th><th>worst error</th><th>limit</th><th>where</th><th>rows</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


_LEFT, _WIDTH, _BAR, _LOW, _HIGH = 330, 1000, 20, -17.0, 0.0


def _plot(report: Report) -> str:
    """Draw the worst float64 error of every submodule, each replayed on torch's own inputs."""
    layers: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.path and row.level == "L1" and row.passed is not None:
            layers.setdefault(row.path, []).append(row)
    if not layers:
        return ""
    height = _BAR * len(layers) + 46
    limit = CRITERIA["L1"].limit
    parts = [
        (
            f"<p>Float64 error by layer, each on the reference's own inputs; the line is the limit "
            f"{_number(limit)}.</p>"
        ),
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="error by layer">',
    ]
    for exponent in range(int(_LOW) + 1, 1, 4):
        x = _x(10.0**exponent)
        parts.append(f'<line x1="{x}" x2="{x}" y1="8" y2="{height - 30}" stroke="#e4e7ec"/>')
        parts.append(f'<text class="axis" x="{x - 14}" y="{height - 12}">1e{exponent}</text>')
    for index, (path, rows) in enumerate(layers.items()):
        parts.append(_bar(path, rows, 12 + index * _BAR))
    x = _x(limit)
    parts.append(
        f'<line x1="{x}" x2="{x}" y1="8" y2="{height - 30}" '
        'stroke="#b42318" stroke-dasharray="4 3"/>'
    )
    return "".join([*parts, "</svg>"])


def _bar(path: str, rows: list[Row], y: int) -> str:
    error = max(row.error for row in rows)
    color = "#b42318" if any(row.passed is False for row in rows) else "#2e90fa"
    label = path if len(path) <= 46 else "..." + path[-43:]
    width = max(_x(error) - _LEFT, 2)
    return (
        f'<text x="8" y="{y + 12}">{html.escape(label)}</text>'
        f'<rect x="{_LEFT}" y="{y + 2}" width="{width}" height="{_BAR - 8}" fill="{color}" rx="2">'
        f"<title>{html.escape(path)}: {_number(error)}</title></rect>"
        f'<text class="axis" x="{_LEFT + width + 6}" y="{y + 12}">{_number(error)}</text>'
    )


def _x(value: float) -> float:
    """Place an error on the logarithmic axis."""
    exponent = _HIGH if not math.isfinite(value) else math.log10(max(value, 10.0**_LOW))
    share = (min(exponent, _HIGH) - _LOW) / (_HIGH - _LOW)
    return round(_LEFT + share * (_WIDTH - _LEFT - 70), 1)


def _all_rows(report: Report) -> str:
    lines = []
    for row in report.rows:
        kind, word = {True: ("good", "pass"), False: ("bad", "FAIL"), None: ("skip", "skip")}[
            row.passed
        ]
        cells = (row.level, row.where, row.path, row.what)
        lines.append(
            "<tr>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            + f'<td class="num">{_number(row.error)}</td><td class="num">{_number(row.limit)}</td>'
            + f'<td class="{kind}">{word}</td><td class="soft">{html.escape(row.note)}</td></tr>'
        )
    head = "".join(
        f"<th>{h}</th>"
        for h in ("level", "where", "module", "what", "error", "limit", "verdict", "note")
    )
    return (
        f"<details><summary>all {len(report.rows)} comparisons</summary>"
        f"<table><tr>{head}</tr>{''.join(lines)}</table></details>"
    )


def _legend() -> str:
    rows = "".join(
        f"<tr><td>{c.level}</td><td>{c.shows}</td><td><code>{html.escape(c.rule)}</code></td>"
        f"<td class='soft'>{html.escape(c.why)}</td></tr>"
        for c in CRITERIA.values()
    )
    return f"<h2>What the levels mean</h2><table>{rows}</table>"


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.1e}" if math.isfinite(value) else ("inf" if value > 0 else str(value))
