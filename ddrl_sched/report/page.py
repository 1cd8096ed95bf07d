"""`ddrl report --format html --out DIR`: the page index.html, and every figure as SVG, PDF and csv beside it."""

from pathlib import Path

import pandas as pd

from ddrl_sched.config import InputError, clean, near
from ddrl_sched.jobs import records
from ddrl_sched.report import html
from ddrl_sched.report.about_runs import about_runs
from ddrl_sched.report.chart import Chart
from ddrl_sched.report.csv_form import as_csv
from ddrl_sched.report.figures import charts
from ddrl_sched.report.material import Material, material_of
from ddrl_sched.report.table import Report
from ddrl_sched.report.verdict import verdicts

PAGE = "index.html"
TITLES = {
    "results": "Schedulers compared",
    "training": "How trainings ended",
    "by_seed": "How far apart training seeds are",
}
WHAT = (
    "AI tasks arrive at edge stations, and a scheduler decides for each which servers work on it. Its delay runs from "
    "its arrival to its result: less is better."
)


def write_page(report: Report, out: Path) -> Path:
    """Write the page and its figures into `out`; where the page is. RecordsError if a file cannot be written."""
    from ddrl_sched.report.draw import as_pdf, as_svg, picture  # lazy: loads matplotlib

    material = _material(report)
    drawn = []
    for chart in charts(material):
        figure = picture(chart)
        svg = as_svg(chart, figure)
        records.write_bytes(out / f"{chart.name}.svg", svg)
        records.write_bytes(out / f"{chart.name}.pdf", as_pdf(chart, figure))
        records.write_bytes(out / f"{chart.name}.csv", as_csv(chart.frame()).encode())
        drawn.append(html.Drawn(chart, svg, 72 * float(figure.get_figwidth())))
    records.write_bytes(out / PAGE, html.page(_content(report, material, drawn)).encode())
    return out / PAGE


def chart_of(report: Report, name: str) -> Chart:
    """The chart of a name. InputError naming those that there are."""
    found = {chart.name: chart for chart in charts(_material(report))}
    if name not in found:
        known = ", ".join(found) if found else "none"
        raise InputError(f"figure: no {clean(name)!r} in these results{near(name, list(found))} (there are: {known})")
    return found[name]


def _material(report: Report) -> Material:
    return material_of(report.found, report.frames.get("rows", pd.DataFrame()))


def _content(report: Report, material: Material, drawn: list[html.Drawn]) -> html.Content:
    found = report.found
    read = f"{found.n_read:,} run folder{'s' * (found.n_read != 1)} read" + (
        f", {len(found.skipped):,} skipped" if found.skipped else ""
    )
    return html.Content(
        title=TITLES[report.kind],
        lead=f"{read}." if found.rows.empty and found.capacities.empty and len(found.returns) else f"{WHAT} {read}.",
        verdicts=list(verdicts(material)) if len(material.table) else [],
        tables=report.tables,
        drawn=drawn,
        runs=about_runs(found),
        notes=report.notes,
        skipped=found.skipped,
    )
