"""Slurm for tests, twice: submitit with a cluster in memory, and commands that run the jobs of arrays here."""

import itertools
import subprocess
import sys
import types
from pathlib import Path

from ddrl_sched.jobs.request import Result

FULL = (
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting policy"
)
TOO_LONG = "sbatch: error: Batch job submission failed: Invalid job array specification\n"


class FailedJobError(RuntimeError):
    """As submitit's: sbatch failed."""


class FailedSubmissionError(RuntimeError):
    """As submitit's: sbatch said something else than a job's number."""


class Cluster:
    """Jobs that run one poll after the other; those of `ends_badly` end with a state and no answer."""

    now: "Cluster"

    def __init__(self, max_array, max_queue):
        self.max_array, self.max_queue = max_array, max_queue
        self.arrays, self.open, self.longest_queue = [], 0, 0
        self.ends_badly = {}
        self.parallel = None

    def take(self, tasks):
        if len(tasks) > self.max_array:
            raise FailedJobError(TOO_LONG)
        if self.open + len(tasks) > self.max_queue:
            raise FailedJobError(FULL)
        self.arrays.append(len(tasks))
        self.open += len(tasks)
        self.longest_queue = max(self.longest_queue, self.open)
        return [Job(self, task) for task in tasks]


class Job:
    """A job that is pending, then runs, then has ended."""

    def __init__(self, cluster, task):
        self._cluster, self._task = cluster, task
        self._polls = itertools.count()
        self.state = "PENDING"
        answers = task.number not in cluster.ends_badly
        self.paths = types.SimpleNamespace(
            result_pickle=types.SimpleNamespace(exists=lambda: answers and self._is_over()), stderr=Path("job.err")
        )

    def _is_over(self):
        return self.state not in ("PENDING", "RUNNING")

    def done(self):
        states = ("PENDING", "RUNNING", self._cluster.ends_badly.get(self._task.number, "COMPLETED"))
        before, self.state = self._is_over(), states[min(next(self._polls), 2)]
        self._cluster.open -= self._is_over() and not before
        return self._is_over()

    def result(self):
        return Result("done", number=self._task.number)

    def get_info(self, mode):
        return {"NodeList": "n1"}

    def cancel(self, check):
        raise AssertionError("all jobs have ended")


class AutoExecutor:
    """As submitit's, for the cluster of now."""

    def __init__(self, folder, cluster, **_):
        assert cluster == "slurm"

    def update_parameters(self, **given):
        if "slurm_array_parallelism" in given:
            Cluster.now.parallel = given["slurm_array_parallelism"]

    def map_array(self, act, tasks):
        return Cluster.now.take(tasks)


class CommandFunction:
    """As submitit's: runs a command of this machine."""

    def __init__(self, words, verbose):
        self._words = words

    def __call__(self):
        done = subprocess.run(self._words, capture_output=True, text=True)
        if done.returncode:
            raise FailedJobError(done.stderr)
        return done.stdout


module = types.ModuleType("submitit")
module.AutoExecutor = AutoExecutor
module.core = types.SimpleNamespace(
    utils=types.SimpleNamespace(
        CommandFunction=CommandFunction,
        FailedJobError=FailedJobError,
        FailedSubmissionError=FailedSubmissionError,
        UncompletedJobError=RuntimeError,
    )
)

# Starts the jobs of an array here, and notes how each ended in a file that sacct shows.
SBATCH = """
import os, re, subprocess, sys
from pathlib import Path

from ddrl_sched.jobs.request import Result
here, script = Path(__file__).parent, sys.argv[-1]
found = re.search(r"--array=0-([0-9]+)", Path(script).read_text())
n = int(found[1]) + 1 if found else 1
if n > MAX_ARRAY:
    sys.exit("sbatch: error: Batch job submission failed: Invalid job array specification")
number = 1 + sum(1 for _ in (here / "submitted").open()) if (here / "submitted").exists() else 1
(here / "submitted").open("a").write(f"{n}\\n")
for task in range(n):
    about = {"JOB_ID": number, "ARRAY_JOB_ID": number, "ARRAY_TASK_ID": task} if found else {"JOB_ID": number}
    about |= {"NTASKS": 1, "JOB_NUM_NODES": 1, "NODEID": 0, "JOB_NODELIST": "n1", "PROCID": 0, "LOCALID": 0}
    name = f"{number}_{task}" if found else f"{number}"
    env = os.environ | {f"SLURM_{key}": str(value) for key, value in about.items()}
    end = f"bash {script}; [ $? = 0 ] && s=COMPLETED || s=FAILED; echo '{name}|'$s'|n1' >> {here}/ended"
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(["bash", "-c", end], env=env, start_new_session=True, **quiet)
print(f"Submitted batch job {number}")
"""


def write_commands(folder, max_array):
    """sbatch, srun, sacct and scancel in `folder`; sbatch refuses longer arrays."""
    folder.mkdir()
    command(folder / "sbatch", SBATCH.replace("MAX_ARRAY", str(max_array)), sys.executable)
    command(folder / "srun", f'until [ "$1" = "{sys.executable}" ]; do shift; done; exec "$@"')
    command(folder / "sacct", f"echo 'JobID|State|NodeList'; cat {folder}/ended 2> /dev/null; true")
    command(folder / "scancel", "true")


def command(path, text, interpreter="/bin/sh"):
    """An executable file."""
    path.write_text(f"#!{interpreter}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
