"""Tracked runs as one HTML page that works offline."""

from mmtune.report.page import write_report

__all__ = ["write_report"]
