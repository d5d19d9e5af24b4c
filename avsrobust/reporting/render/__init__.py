"""Formats of a report: every module or package here is a format of its own name and defines ``FORMAT``."""
