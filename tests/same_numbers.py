"""Whether two checkouts compute the same numbers: a fixed set of jobs, run by each, compared bit for bit.

    git worktree add /tmp/before COMMIT
    python tests/same_numbers.py run /tmp/before /tmp/numbers-before --names before
    python tests/same_numbers.py run . /tmp/numbers-now
    python tests/same_numbers.py compare /tmp/numbers-before /tmp/numbers-now

The set holds every family of schedulers in both physics, every form of network and of arrivals, and the training of
every learner. Compared are all numbers of eval.parquet, curves.parquet and returns.parquet but the time that decisions
and trainings took. Runs of one machine and one set of libraries can be compared, no others. About ten minutes a
checkout.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

RULES = (
    "best_1 best_2 best_3 best_3_running best_set best_set_tracked capacity_proportional eft equal_finish"
    " equal_finish_announced equal_finish_own equal_finish_probed equal_finish_tracked jsq jsq2 local local_plus_best"
    " local_plus_best_running optimal priced priced_asking priced_running rand_coedge random round_robin"
    " sed_announced sed_own sed_probed sed_tracked split_capacity wrr_own wrr_quota"
)
SINGLE = "best_1 capacity_proportional eft jsq jsq2 local random round_robin sed_announced sed_own sed_tracked"
VALUES = (
    "amcoedge tuned/amcoedge dqn_ts tuned/dqn_ts drlcoedge prototype/drlcoedge searched/drlcoedge_images"
    " searched/drlcoedge settled/drlcoedge tuned/drlcoedge smcoedge prototype/smcoedge searched/smcoedge_images"
    " searched/smcoedge settled/smcoedge tuned/smcoedge"
)
ACTORS = (
    "d2sac_ts ddrl_amsa prototype/ddrl_amsa searched/ddrl_amsa_images tuned/ddrl_amsa ddrl_ats tuned/ddrl_ats lad_ts"
    " sac_ts tuned/sac_ts ablation/set_mlp ablation/set_latent_index"
)
PRICES = "ddrl_amsa_price ddrl_amsa_price_asking prototype/ddrl_amsa_price ddrl_ats_price ddrl_price_slotted"
POLES = (
    "cartpole/dqn cartpole/dqn_tuned cartpole/dsac cartpole/dsac_denoising_tuned cartpole/dsac_tuned cartpole/sac"
    " cartpole/sac_tuned"
)
SHORT = "evaluate.traces=2 env.clock.horizon_s=6"
LEARN = f"{SHORT} train=tiny seeds=2 scheduler.learning.start_slots=1 scheduler.learning.batch=16"
CLEAN = "env=edge5 workload=poisson"
MULTI = "env=published_multi workload=published_multi"
ONE = "env=published_single workload=published_single"
FEW = "eft equal_finish priced jsq2 wrr_quota"
CASES = {  # name -> (schedulers, other words)
    "rules": (RULES, f"{CLEAN} {SHORT} workload.load=0.5,0.9"),
    "rules_published": (RULES, f"{MULTI} evaluate.traces=2 seeds=2 env.rule=own"),
    "rules_single": (SINGLE, f"{ONE} evaluate.traces=2 seeds=2"),
    "values": (VALUES, f"{CLEAN} {LEARN}"),
    "actors": (ACTORS, f"{CLEAN} {LEARN}"),
    "values_published": ("amcoedge drlcoedge smcoedge", f"{MULTI} {LEARN} env.rule=own"),
    "actors_published": ("ddrl_amsa tuned/ddrl_amsa", f"{MULTI} {LEARN} env.rule=own"),
    "single_published": ("d2sac_ts ddrl_ats dqn_ts lad_ts sac_ts", f"{ONE} {LEARN}"),
    "prices": (PRICES, f"{CLEAN} {SHORT} train=tiny seeds=2 scheduler.evolution.pairs=2 train.loads=[0.4,0.8]"),
    "cartpole": (POLES, "env=cartpole train=cartpole seeds=2 train.horizons=[1200] train.evaluate_every=400"),
    "per_link": (FEW, f"env=edge5_links workload=poisson {SHORT}"),
    "free": (FEW, f"env=edge5_free workload=poisson {SHORT}"),
    "twenty": ("eft equal_finish jsq2 wrr_quota ddrl_ats_price", f"env=edge20 workload=poisson {SHORT} train=tiny"),
    "pings": (FEW, f"env=ping5 workload=bursty {SHORT}"),
    "graph": ("eft equal_finish_own jsq wrr_own", f"env=karen workload=poisson {SHORT}"),
    "trace": (FEW, "env=testbed5 workload=azure_conv evaluate.traces=2"),
    "best_k": ("best_k", f"{CLEAN} {SHORT} scheduler.k=2,4"),
    "slotted": (f"{FEW} priced_slotted", f"env=edge5 workload=slotted {SHORT}"),
    "outages": (
        FEW,
        f"{CLEAN} {SHORT} env.slowdowns={{mean_between_s:2,mean_duration_s:1,factor:0.1}}",
    ),
    "replayed": ("optimal rand_coedge", f"{MULTI} evaluate.traces=2 seeds=2 evaluate.replay_rule=smcoedge"),
}
RENAMED_SCHEDULERS = {  # now -> before
    "tuned/amcoedge": "amcoedge_tuned",
    "tuned/ddrl_amsa": "ddrl_amsa_tuned",
    "tuned/ddrl_ats": "ddrl_ats_tuned",
    "tuned/dqn_ts": "dqn_ts_tuned",
    "tuned/drlcoedge": "drlcoedge_tuned",
    "tuned/sac_ts": "sac_ts_tuned",
    "tuned/smcoedge": "smcoedge_tuned",
    "searched/drlcoedge": "drlcoedge_searched",
    "searched/smcoedge": "smcoedge_searched",
    "searched/drlcoedge_images": "drlcoedge_images_searched",
    "searched/smcoedge_images": "smcoedge_images_searched",
    "searched/ddrl_amsa_images": "ddrl_amsa_images_searched",
    "settled/drlcoedge": "drlcoedge_settled",
    "settled/smcoedge": "smcoedge_settled",
    "prototype/drlcoedge": "drlcoedge_images",
    "prototype/smcoedge": "smcoedge_images",
    "prototype/ddrl_amsa": "ddrl_amsa_images",
    "prototype/ddrl_amsa_price": "ddrl_amsa_price_images",
    "cartpole/dqn": "cartpole_dqn",
    "cartpole/sac": "cartpole_sac",
    "cartpole/dsac": "cartpole_dsac",
    "cartpole/dqn_tuned": "cartpole_dqn_tuned",
    "cartpole/sac_tuned": "cartpole_sac_tuned",
    "cartpole/dsac_tuned": "cartpole_dsac_tuned",
    "cartpole/dsac_denoising_tuned": "cartpole_dsac_denoising_tuned",
}
RENAMED_WORDS: dict[str, str] = {}  # part of a word now -> before
TABLES = {  # table -> (what names a row, numbers that are not compared)
    "eval.parquet": (["scheduler", "load", "rule", "seed", "trace", "cluster"], ["scenario_hash", "decide_us"]),
    "curves.parquet": (["seed", "tasks_seen", "update", "metric"], []),
    "returns.parquet": (["scheduler", "seed", "steps"], ["scenario_hash"]),
}


def words_of(name: str, *, before: bool) -> list[str]:
    """The command line of a case, as it is spelled now or was `before` the renames."""
    schedulers, others = CASES[name]
    names = [RENAMED_SCHEDULERS.get(each, each) if before else each for each in schedulers.split()]
    line = others
    for now, then in RENAMED_WORDS.items():
        line = line.replace(now, then) if before else line
    return [f"scheduler={','.join(names)}", f"name={name}", *line.split()]


def run(checkout: Path, out: Path, names: list[str], *, before: bool) -> int:
    """Run the set with the code of a checkout; the status is 1 if a sweep failed."""
    failed = []
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    for name in names:
        command = [sys.executable, "-m", "ddrl_sched", "sweep", *words_of(name, before=before)]
        command += [f"runs_dir={out.resolve()}", "launcher=processes"]
        print(" ".join(command[2:]), flush=True)
        if subprocess.run(command, cwd=checkout, env=environment, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all sweeps done")
    return 1 if failed else 0


def name_now(label: str) -> str:
    """A label with the scheduler's present name."""
    now = {then: now for now, then in RENAMED_SCHEDULERS.items()}
    name, bracket, rest = label.partition("(")
    return now.get(name, name) + bracket + rest


def table(out: Path, case: str, file: str) -> pd.DataFrame:
    """All rows of one table of a case, of every job, in an order of their own."""
    frames = []
    for path in sorted((out / case).glob(f"*/{file}")):
        frame = pd.read_parquet(path)
        if "metric" in frame:
            frame = frame[frame["metric"] != "elapsed_s"].reset_index(drop=True)
        if "scheduler" not in frame:  # curves: the job says whose they are
            frame["scheduler"] = pd.read_json(path.with_name("job.json"), typ="series")["scheduler"]
        frames.append(frame)
    if not frames:
        return pd.DataFrame()
    rows = pd.concat(frames, ignore_index=True)
    rows["scheduler"] = rows["scheduler"].map(name_now)
    keys = [key for key in dict.fromkeys(["scheduler", *TABLES[file][0]]) if key in rows]
    return rows.drop(columns=TABLES[file][1], errors="ignore").sort_values(keys, kind="stable").reset_index(drop=True)


def differences(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """What differs between two tables, to the last bit; NaN is like NaN."""
    if len(one) != len(other):
        return [f"{len(one)} and {len(other)} rows"]
    if sorted(one.columns) != sorted(other.columns):
        return [f"columns {sorted(set(one.columns) ^ set(other.columns))}"]
    said = []
    for column in one.columns:
        a, b = one[column], other[column]
        unlike = ~((a == b) | (a.isna() & b.isna()))
        if unlike.any():
            whose = ", ".join(sorted(set(one.loc[unlike, "scheduler"].astype(str)))[:5])
            said.append(f"{column}: {int(unlike.sum())} of {len(one)} rows ({whose})")
    return said


def compare(before: Path, now: Path, names: list[str]) -> int:
    """Print what differs between two runs of the set; the status is 1 if anything does, or nothing was there."""
    status, n_rows = 0, 0
    for case in names:
        for file in TABLES:
            one, other = table(before, case, file), table(now, case, file)
            n_rows += len(one)
            for text in differences(one, other):
                print(f"{case} {file}: {text}")
                status = 1
    print(f"{n_rows} rows {'differ' if status else 'are the same, bit for bit'}")
    return status if n_rows else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run the set")
    runs.add_argument("checkout", type=Path)
    runs.add_argument("out", type=Path)
    runs.add_argument("--names", choices=["now", "before"], default="now")
    compares = commands.add_parser("compare", help="compare two runs of it")
    compares.add_argument("before", type=Path)
    compares.add_argument("now", type=Path)
    for each in (runs, compares):
        each.add_argument("--case", action="append", choices=list(CASES), help="only these")
    given = parser.parse_args()
    names = given.case or list(CASES)
    if given.command == "run":
        return run(given.checkout, given.out, names, before=given.names == "before")
    return compare(given.before, given.now, names)


if __name__ == "__main__":
    sys.exit(main())
