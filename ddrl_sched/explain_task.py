"""`ddrl show RUN --task N`: one decision told in sentences and a table, beside the best that could have been decided.

What was known and done stands in tasks.parquet; the best set is computed here by the simulator's own split.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ddrl_sched.config import clean
from ddrl_sched.display import width_of
from ddrl_sched.edge.one_decision import BestSet, best_set
from ddrl_sched.edge.split import Quote, finish_of
from ddrl_sched.jobs.reading import Columns
from ddrl_sched.jobs.schemas import JobRecord
from ddrl_sched.report.plain_text import PAGE, aligned, print_lines, seconds, wrapped
from ddrl_sched.report.show import open_run
from ddrl_sched.report.task_table import of_task, read_trace
from ddrl_sched.run.inputs import value_at

MOST_SERVERS = 20  # in the table; of more, those that play a part
AS_GOOD = 1e-9  # seconds by which two forecasts are the same


def main(folder: Path, number: int, seed: int | None, trace: int | None) -> int:
    """Print what became of a task. InputError naming what is not there."""
    run = open_run(folder)
    rows = of_task(read_trace(run, seed, trace), number)
    print_lines(told(run.job, rows, width_of(sys.stdout) or PAGE))
    return 0


def told(job: JobRecord, rows: Columns, width: int) -> Iterator[str]:
    """The decision about one task; `rows`: one per server."""
    quote = quote_of(rows, shared=value_at(job["settings"], "env.network.port") == "shared")
    best = best_set(quote, int(rows["units"][0]))
    here = [clean(value_at(job["settings"], key)) for key in ("env.name", "workload.name", "workload.load")]
    title = f"Task {rows['task'][0]} of trace {rows['trace'][0]}, seed {rows['seed'][0]}"
    yield from wrapped(f"{title}: {clean(job['scheduler'])} in {here[0]}, {here[1]}, load {here[2]}", width)
    for sentence in (_task(rows), _decision(rows), _outcome(rows), *_comparison(rows, quote, best)):
        yield from ["", *wrapped(sentence, width)]
    yield from ["", *_table(rows, best, width)]


def quote_of(rows: Columns, *, shared: bool) -> Quote:
    """What the servers would have told the station, had it known all: seconds after the task's arrival."""
    own = np.flatnonzero(rows["own"])
    speed_gcps = np.zeros(len(rows["server"]))  # no part of an equal finish
    order = np.argsort(rows["send_s"], kind="stable")
    local = int(own[0]) if len(own) else -1
    told = {name: rows[name].copy() for name in ("port_s", "send_s", "latency_s", "unit_s", "fixed_s")}
    wait_s = rows["exact_wait_s"].copy()
    return Quote(free_s=wait_s, **told, order=order, speed_gcps=speed_gcps, shared=shared, local=local)


def _task(rows: Columns) -> str:
    one = {name: values[0] for name, values in rows.items()}
    units = f" in {one['units']} units" if one["units"] else ""
    size = f"{one['input_mbit']:.4g} Mbit to send, {one['work_gcycle']:.4g} Gcycle of work{units}"
    more = f"{one['overhead_gcycle']:.3g} Gcycle more on every server that gets a share"
    own = np.flatnonzero(rows["own"])
    home = f"whose own server is {own[0]}" if len(own) else "which has no server of its own"
    arrival = f"It arrives at station {one['station']}, {home}, {one['arrive_s']:.4f} s after the start"
    end = f"a result of {one['result_mbit']:.3g} Mbit, due in {seconds(one['deadline_s'])}"
    return f"{arrival}: {size} ({more}), {end}."


def _decision(rows: Columns) -> str:
    asked, chosen, used = (np.flatnonzero(mask) for mask in (rows["asked"], rows["chosen"], rows["share"] > 0))
    words = []
    if len(asked):
        words.append(f"The scheduler asked {_servers(asked)} for the exact wait, which took {_time(rows, 'asking_s')}.")
    else:
        words.append("The scheduler asked no server.")
    unused = np.setdiff1d(chosen, used)
    text = f"It chose {_servers(chosen)}"
    text += f", and divided the work among {_servers(used)}" if len(used) > 1 else ""
    words.append(f"{text}{f', with nothing for {_servers(unused)}' if len(unused) else ''}.")
    wrong_s = np.abs(rows["split_wait_s"] - rows["exact_wait_s"])
    worst = int(wrong_s.argmax())
    if wrong_s[worst] > AS_GOOD:
        believed, true = seconds(rows["split_wait_s"][worst]), seconds(rows["exact_wait_s"][worst])
        words.append(f"It was most mistaken about server {worst}: it counted on a wait of {believed}, not {true}.")
    else:
        words.append("It knew every wait.")
    return " ".join(words)


def _outcome(rows: Columns) -> str:
    parts = (("wait_s", "waiting"), ("transfer_s", "transfer"), ("compute_s", "computing"), ("return_s", "return"))
    of_last = ", ".join(f"{_time(rows, name)} {word}" for name, word in parts)
    late = "late" if rows["late"][0] else "in time"
    return f"The result was back after {_time(rows, 'delay_s')}, {late}. Of the share that ended last: {of_last}."


def _comparison(rows: Columns, quote: Quote, best: BestSet) -> Iterator[str]:
    """What the best set would have been, and how much faster."""
    after_asking = quote._replace(port_s=np.maximum(quote.port_s, rows["asking_s"]))
    chosen_s = float(finish_of(after_asking, rows["share"]))
    delay_s = float(rows["delay_s"][0])
    used = np.flatnonzero(best.share > 0)
    which = "The best set" if best.exact else f"The best of the sets that were compared (there are {len(used)} servers)"
    text = f"{which} for this task, with every wait known, was {_servers(used)}: done after {seconds(best.finish_s)}."
    saved_s = chosen_s - best.finish_s
    if saved_s <= AS_GOOD:
        yield f"{text} What was chosen is as good."
    else:
        yield (
            f"{text} What was chosen would be done after {seconds(chosen_s)} by the same forecast: the best set is "
            f"{seconds(saved_s)} ({100 * saved_s / chosen_s:.1f} %) faster."
        )
    if abs(delay_s - chosen_s) > 1e-6:
        more, why = "more", "that were decided later arrived first"
        if delay_s < chosen_s:
            more, why = "less", "that were on their way came after its own"
        text = f"In fact it took {seconds(abs(delay_s - chosen_s))} {more} than that forecast: shares {why}"
        yield f"{text}, or a server changed its speed."


def _table(rows: Columns, best: BestSet, width: int) -> Iterator[str]:
    """A line per server, times in ms or s after the arrival."""
    scale, unit = (1e3, "ms") if rows["delay_s"][0] < 1.0 else (1.0, "s")
    shown = np.arange(len(rows["server"]))
    if len(shown) > MOST_SERVERS:
        parts = rows["own"] | rows["asked"] | rows["chosen"] | (rows["share"] > 0) | (best.share > 0)
        shown = np.flatnonzero(parts)
    told_more = bool((rows["seen_wait_s"] != rows["split_wait_s"]).any())
    header = ["server", "thought", *(["asked"] if told_more else []), "exact"]
    header += ["share", "sent", "there", "begun", "done", "best"]
    cells = [header]
    waits = ["seen_wait_s", *(["split_wait_s"] if told_more else []), "exact_wait_s"]
    for s in shown:
        name = f"{rows['server'][s]}{'*' if rows['own'][s] else ''}"
        moments = [rows[name][s] - rows["arrive_s"][s] for name in ("sent_s", "arrived_s", "started_s", "ended_s")]
        cells.append(
            [name, *(f"{scale * rows[key][s]:.1f}" for key in waits), _percent(rows["share"][s])]
            + ["-" if np.isnan(moment) else f"{scale * moment:.1f}" for moment in moments]
            + [_percent(best.share[s])]
        )
    yield from aligned(cells, width, right=range(len(header)))
    left_out = len(rows["server"]) - len(shown)
    legend = f"Times in {unit} after the arrival. thought: wait that it believed in when it chose"
    legend += "; asked: when it divided the work" if told_more else ""
    legend += "; exact: until the server has done all that it was promised; best: shares of the best set"
    legend += "; *: the station's own server"
    legend += f"; {left_out} other servers play no part" if left_out else ""
    yield from ["", *wrapped(f"{legend}.", width)]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share > 0 else "-"


def _time(rows: Columns, column: str) -> str:
    return seconds(float(rows[column][0]))


def _servers(numbers: Iterable[int]) -> str:
    """ "server 3", "servers 1, 2 and 4"."""
    words = [str(number) for number in numbers]
    if len(words) < 2:
        return f"server {words[0]}" if words else "no server"
    return f"servers {', '.join(words[:-1])} and {words[-1]}"
