"""A page that people open: ``report.html`` of a folder of results, one file without network."""

from __future__ import annotations

from banet_monai.report.page.results import NotResultsError
from banet_monai.report.page.sources import Source, sources_of
from banet_monai.report.page.writing import MOST_PICTURES, write_report

__all__ = ["MOST_PICTURES", "NotResultsError", "Source", "sources_of", "write_report"]
