"""An audit as text for a terminal."""

from __future__ import annotations

from avsrobust.audit.separability import Estimate
from avsrobust.audit.verdicts import AuditReport, Separation
from avsrobust.reporting.escape import markdown, markdown_line, text_table


def render_audit(report: AuditReport) -> str:
    """Return the audit as Markdown tables, remarks and verdict."""
    lines = [
        markdown_line(f"{report.manifest}: {report.dataset}, recipe {report.recipe}"),
        "",
        _summary_table(report),
        "",
        "Told from clean by feature statistics (AUROC; 0.5: not at all; linear: all statistics, 95 % interval)",
        "",
        _separation_table(report),
        "",
        *(f"- {markdown_line(remark)}" for remark in report.remarks),
        *(f"- FAILED {markdown(finding)}" for finding in report.findings),
        "",
        "failed: the features give a condition away" if report.failed else "passed: no sign of another front end",
    ]
    return "\n".join(lines) + "\n"


def _summary_table(report: AuditReport) -> str:
    header = ["condition", "arrays", "rows", "minimum", "maximum", "mean", "fixed positions"]
    rows = [
        [
            markdown(entry.condition),
            " / ".join(entry.forms),
            str(entry.rows),
            f"{entry.minimum:.3f}",
            f"{entry.maximum:.3f}",
            f"{entry.mean:.3f}",
            f"{entry.fixed_share:.0%}",
        ]
        for entry in report.summaries
    ]
    return text_table(header, rows, numeric_from=2)


def _separation_table(report: AuditReport) -> str:
    header = [
        "condition",
        "strongest statistic",
        "its AUROC",
        "loudness",
        "linear, all rows",
        "linear, same sounds",
    ]
    return text_table(header, [_separation_row(entry) for entry in report.separations], numeric_from=2)


def _separation_row(entry: Separation) -> list[str]:
    name, auroc = entry.strongest
    estimates = (entry.loudness, entry.plain, entry.matched)
    return [markdown(entry.condition), name, f"{auroc:.2f}", *(_interval(found) for found in estimates)]


def _interval(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.auroc:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
