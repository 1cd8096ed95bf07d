"""`ddrl show RUN --gantt 10:12 --out g.svg`: what servers and ports did, in the colour of each task's station."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ddrl_sched.config import InputError, clean
from ddrl_sched.jobs import records
from ddrl_sched.jobs.reading import Columns
from ddrl_sched.report.show import open_run
from ddrl_sched.report.task_table import read_trace
from ddrl_sched.run.inputs import value_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}  # what would differ
MOST_BARS, MOST_LANES = 20_000, 80
WIDTH_IN, LANE_IN, BESIDE_IN = 10.0, 0.3, 1.4  # inches of the picture
LABEL_PART = 0.012  # part of the span from which a bar has room for the number of its station
STYLE = {"svg.hashsalt": "ddrl", "svg.fonttype": "none", "font.size": 9, "hatch.linewidth": 0.6}


class Bars(NamedTuple):
    """Bars of a picture, one per share and lane."""

    lane: np.ndarray  # number of its lane
    begin_s: np.ndarray
    end_s: np.ndarray
    station: np.ndarray
    names: list[str]  # of the lanes


def main(folder: Path, span: str, out: Path | None, seed: int | None, trace: int | None) -> int:
    """Draw a span of a trace into a file. InputError naming the option that is wrong."""
    begin_s, end_s = parse_span(span)
    if out is None:
        raise InputError("--gantt: --out FILE says where the picture goes (.svg, .pdf or .png)")
    if out.suffix not in ENDINGS:
        raise InputError(f"--out {clean(out)}: a name that ends in {', '.join(ENDINGS)} expected")
    run = open_run(folder)
    table = read_trace(run, seed, trace)
    bars = bars_of(table, begin_s, end_s, shared=value_at(run.job["settings"], "env.network.port") == "shared")
    title = f"{run.job['scheduler']}, trace {table['trace'][0]}, seed {table['seed'][0]}"
    records.write_bytes(out, picture(bars, (begin_s, end_s), clean(title), out.suffix))
    print(f"written: {clean(out)}")
    return 0


def parse_span(text: str) -> tuple[float, float]:
    """Seconds FROM:TO. InputError for anything else."""
    try:
        begin_s, end_s = map(float, text.split(":"))
    except ValueError:
        raise InputError(f"--gantt {clean(text)}: seconds FROM:TO expected, such as 10:12") from None
    if not (math.isfinite(begin_s) and math.isfinite(end_s) and 0 <= begin_s < end_s):
        raise InputError(f"--gantt {clean(text)}: FROM must be at least 0 and less than TO")
    return begin_s, end_s


def bars_of(table: Columns, begin_s: float, end_s: float, *, shared: bool) -> Bars:
    """Service on servers and sending at ports within a span. InputError where nothing or too much happens in it."""
    used = table["share"] > 0
    served = used & (table["started_s"] < end_s) & (table["ended_s"] > begin_s)
    sent_until_s = table["arrived_s"] - table["latency_s"]
    sent = used & ~table["own"] & (table["sent_s"] < end_s) & (sent_until_s > begin_s)
    if not served.any() and not sent.any():
        last = np.nanmax(table["ended_s"]) if used.any() else 0.0
        raise InputError(f"--gantt {begin_s:g}:{end_s:g}: nothing happens then; the trace ends at {last:.4g} s")
    n_servers = int(table["server"].max()) + 1
    links = np.full(int(sent.sum()), -1) if shared else table["server"][sent]
    pairs = [*zip(table["station"][sent].tolist(), links.tolist(), strict=True)]
    ports = sorted(set(pairs))
    names = [f"server {s}" for s in range(n_servers)]
    names += [f"port {b}" if s < 0 else f"link {b} to {s}" for b, s in ports]
    number = {port: n_servers + i for i, port in enumerate(ports)}
    lane = np.concatenate([table["server"][served], np.array([number[pair] for pair in pairs], np.int64)])
    if len(lane) > MOST_BARS or len(names) > MOST_LANES:
        text = f"{len(lane):,} bars in {len(names)} lanes; a picture has at most {MOST_BARS:,} in {MOST_LANES}"
        raise InputError(f"--gantt {begin_s:g}:{end_s:g}: {text}: give a shorter span")
    begins = np.concatenate([table["started_s"][served], table["sent_s"][sent]])
    ends = np.concatenate([table["ended_s"][served], sent_until_s[sent]])
    stations = np.concatenate([table["station"][served], table["station"][sent]])
    return Bars(lane, np.maximum(begins, begin_s), np.minimum(ends, end_s), stations, names)


def picture(bars: Bars, span: tuple[float, float], title: str, ending: str) -> bytes:
    """The bars as a file of this ending; the same bytes each time."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, BESIDE_IN + LANE_IN * len(bars.names)), layout="constrained")
        _draw(figure, bars, span, title)
        file = io.BytesIO()
        figure.savefig(file, format=ending[1:], metadata=ENDINGS[ending], dpi=150)
    return file.getvalue()


def _draw(figure: "Figure", bars: Bars, span: tuple[float, float], title: str) -> None:
    axes = figure.add_subplot()
    axes.set_xlim(span)
    stations = sorted({*bars.station.tolist()})
    for place, station in enumerate(stations):
        _draw_station(axes, bars, station, place / max(len(stations) - 1, 1), place % 2 == 1)
    n_servers = sum(name.startswith("server") for name in bars.names)
    if n_servers < len(bars.names):
        axes.axhline(n_servers - 0.5, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(bars.names)), bars.names)
    axes.set_ylim(len(bars.names) - 0.4, -0.6)
    axes.set_xlabel("time since the start of the trace, s (servers: service; ports: sending)")
    axes.set_title(title, loc="left")
    axes.grid(axis="x", color="0.85", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    columns = min(len(stations), 10)
    figure.legend(title="task of station", loc="outside lower center", ncols=columns, frameon=False)


def _draw_station(axes: "Axes", bars: Bars, station: int, tone: float, hatched: bool) -> None:
    """The bars of one station. Tones get lighter from station to station, also in grey; every other one is hatched."""
    from matplotlib import colormaps

    mine = bars.station == station
    begin, length, lane = bars.begin_s[mine], (bars.end_s - bars.begin_s)[mine], bars.lane[mine]
    colour = colormaps["cividis"](0.08 + 0.87 * tone)
    axes.barh(
        lane, length, left=begin, height=0.72, color=colour, edgecolor="0.25", linewidth=0.4,
        hatch="////" if hatched else None, label=str(station),
    )  # fmt: skip
    room = LABEL_PART * (axes.get_xlim()[1] - axes.get_xlim()[0])
    ink = "black" if tone > 0.5 else "white"
    for k in np.flatnonzero(length > room):
        axes.text(
            begin[k] + length[k] / 2, lane[k], str(station), ha="center", va="center", fontsize=7, color=ink,
            clip_on=True, bbox={"boxstyle": "round,pad=0.1", "facecolor": colour, "edgecolor": "none"},
        )  # fmt: skip
