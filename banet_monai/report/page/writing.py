"""From a folder of results to ``report.html`` and a PNG per case."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from banet_monai.data.failures import explanation
from banet_monai.files import write_beside
from banet_monai.report.page.cards import strips_markup
from banet_monai.report.page.comparing import compare, figures_of, highest_label, summary_of
from banet_monai.report.page.content import Page, PageCase
from banet_monai.report.page.document import page_markup
from banet_monai.report.page.figures import columns_of, first_order, known_figures
from banet_monai.report.page.loading import CaseArrays, load_case
from banet_monai.report.page.measuring import Measured, measured, stored_figures
from banet_monai.report.page.private import patient_data
from banet_monai.report.page.raster import draw_strips
from banet_monai.report.page.results import CaseResult, Results, read_results
from banet_monai.report.page.sources import Source, find_sources, find_truths
from banet_monai.report.page.views import Strip, strips_of

__all__ = ["MOST_PICTURES", "REPORT", "write_report"]

REPORT = "report.html"
PNG_FOLDER = "report"
MOST_PICTURES = 200  # cases with pictures on the page; all others stand in its table
CASE_BYTES = 90_000  # of a case's pictures before base64: 200 cases stay below 30 MB
PNG_EFFORT = 1  # of zlib, 0 to 9: somewhat larger files, written several times as fast
MOST_THREADS = 8

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Wishes:
    """What the caller asked for; see :func:`write_report`."""

    truth: str | Path | None
    patient_data: bool
    title: str
    pictures: int
    pngs: bool
    progress: Progress | None


def write_report(
    folder: str | Path,
    *,
    images: str | Path | None = None,
    truth: str | Path | None = None,
    sources: Mapping[str, Source] | None = None,
    patient_data: bool = False,
    title: str = "",
    pictures: int = MOST_PICTURES,
    pngs: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write ``report.html``, one file that needs no other and no network, and ``report/<name>.png`` for its pictures.

    Files are written beside and renamed. What is missing or damaged is said on the page, and everything else is shown.

    Args:
        folder: results of ``banet segment`` or ``banet evaluate``, with their ``manifest.json``.
        images: what that run was given as INPUT or DATASET. None: the place that the manifest names; without it the
            overlays of the run, or the outlines alone.
        truth: folder with true masks, ``<name>.png``, ``<name>_mask.nii.gz`` and so on. Where cases were evaluated,
            theirs are found with ``images``.
        sources: files of the cases by name, from a caller who knows them; then ``images`` is not looked at.
        patient_data: show names, numbers and dates of DICOM patients. Without it no attribute of a patient is read.
        title: heading of the page; by default "Segmentation report" or "Evaluation report".
        pictures: cases with pictures, the first ones of the page's order; all others stand in its table alone.
        pngs: write the PNG files.
        progress: told how many cases of how many are done.

    Returns:
        Path of the page.

    Raises:
        NotResultsError: when the folder holds no results (a ValueError).
        FileNotFoundError: when ``images`` or ``truth`` does not exist.
        ValueError: when they hold none of the cases, or ``pictures`` is negative.
        OSError: when a file cannot be written.
    """
    if pictures < 0:
        raise ValueError(f"pictures must be the number of cases to show, 0 or more, got {pictures}.")
    results = read_results(folder)
    wishes = _Wishes(truth, patient_data, title, pictures, pngs, progress)
    if sources is not None:
        return _write(results, dict(sources), wishes)
    with find_sources(results, images) as found:
        return _write(results, found, wishes)


def _write(results: Results, sources: dict[str, Source], wishes: _Wishes) -> Path:
    if wishes.truth is not None:
        for name, label in find_truths([case.name for case in results.cases], wishes.truth).items():
            sources[name] = replace(sources.get(name, Source()), label=label)
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        cases, summary = _compared(results, sources, pool)
        known = [(case.name, known_figures(case.classes, case.uncertainty)) for case in cases]
        order, sorted_by, ascending = first_order(known)
        shown = order[: wishes.pictures]
        pages: list[PageCase] = []
        render = _Renderer(results.folder, sources, wishes)
        for done, page in enumerate(pool.map(lambda index: render(cases[index]), shown), start=1):
            pages.append(page)
            if wishes.progress is not None:
                wishes.progress(done, len(shown))
    pages += [_without_pictures(results.folder, cases[index]) for index in order[len(shown) :]]
    content = Page(
        wishes.title or ("Evaluation report" if summary else "Segmentation report"),
        results,
        pages,
        columns_of([case.figures for case in pages]),
        sorted_by,
        ascending,
        summary,
    )
    text = page_markup(content).encode("utf-8")
    return write_beside(results.folder / REPORT, lambda path: path.write_bytes(text))


def _without_pictures(folder: Path, case: CaseResult) -> PageCase:
    sizes = stored_figures(folder, case.name)
    figures = {**known_figures(case.classes, case.uncertainty), **sizes.figures}
    return PageCase(case, figures, sizes.unit, (*case.warnings, *_remarks(case, None), *sizes.notes))


def _compared(
    results: Results, sources: Mapping[str, Source], pool: ThreadPoolExecutor
) -> tuple[list[CaseResult], Mapping[str, Any]]:
    """The cases with their figures against truth, and the summary; computed where the run left none."""
    cases = list(results.cases)
    if any(case.classes for case in cases):
        return cases, results.summary
    to_do = [n for n, case in enumerate(cases) if sources.get(case.name, Source()).label]
    if not to_do:
        return cases, {}

    def load(index: int) -> Any:
        case = cases[index]
        return load_case(results.folder, case, sources[case.name])

    count = max(pool.map(lambda index: highest_label(load(index)), to_do))
    rows = list(pool.map(lambda index: compare(cases[index].name, load(index), count), to_do))
    for index, of_case in zip(to_do, rows, strict=True):
        if of_case:
            cases[index] = replace(cases[index], classes=figures_of(of_case), unit=of_case[0].unit)
    return cases, summary_of([row for of_case in rows for row in of_case], count)


class _Renderer:
    """Opens, measures and draws one case after the other; called from several threads."""

    def __init__(self, folder: Path, sources: Mapping[str, Source], wishes: _Wishes) -> None:
        self.folder = folder
        self.sources = sources
        self.wishes = wishes

    def __call__(self, case: CaseResult) -> PageCase:
        source, arrays = self.sources.get(case.name, Source()), CaseArrays()
        try:
            arrays = load_case(self.folder, case, source)
            sizes = measured(self.folder, case.name, arrays)
            strips = strips_of(arrays, case.name, sizes.chords)
        except Exception as error:  # one case that nobody thought of shall not cost the page
            sizes, strips = Measured(notes=(f"The case cannot be drawn: it {explanation(error, {})}.",)), []
        if self.wishes.pngs and strips:
            self._write_png(case.name, strips)
        private = patient_data(source) if self.wishes.patient_data else {}
        return PageCase(
            case,
            {**known_figures(case.classes, case.uncertainty), **sizes.figures},
            sizes.unit,
            (*case.warnings, *arrays.notes, *_remarks(case, arrays), *sizes.notes),
            private,
            has_card=True,
            pictures=strips_markup(strips, limit=CASE_BYTES),
            shows=_shown(arrays, strips),
        )

    def _write_png(self, name: str, strips: Sequence[Strip]) -> None:
        picture = draw_strips(strips)

        def save(path: Path) -> None:
            picture.save(path, "PNG", compress_level=PNG_EFFORT)

        write_beside(self.folder / PNG_FOLDER / f"{name}.png", save)


def _shown(arrays: CaseArrays, strips: Sequence[Strip]) -> frozenset[str]:
    """What is to be seen beside the prediction."""
    panels = [panel for strip in strips for panel in strip.panels]
    marks = {"truth" for panel in panels if panel.truth}
    marks |= {"chords" for panel in panels if panel.kind == "image" and panel.chords}
    return frozenset(marks | {"uncertainty" for name in arrays.maps if name == "uncertainty" and strips})


def _remarks(case: CaseResult, arrays: CaseArrays | None) -> list[str]:
    """What the results themselves tell to look at."""
    remarks = []
    if case.uncertainty is not None and math.isnan(case.uncertainty):
        remarks.append("The uncertainty is not a number: look at this case.")
    if arrays is None or arrays.labels is None:
        return remarks
    if not arrays.labels.any():
        remarks.append("No foreground was predicted.")
    elif arrays.labels.all():
        remarks.append("Everything is foreground.")
    for name, values in arrays.maps.items():
        if missing := int(np.isnan(values).sum()):
            remarks.append(f"The {name} map is not a number at {missing} of {values.size} pixels (pale blue).")
    return remarks
