"""The audit of a build: can negatives be separated from clean audio by feature statistics alone?"""

from avsrobust.audit.rendering import render_audit
from avsrobust.audit.verdicts import AuditReport, audit

__all__ = ["AuditReport", "audit", "render_audit"]
