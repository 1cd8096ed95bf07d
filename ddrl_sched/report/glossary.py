"""What the words of the tables mean, a line each."""

from html import escape

from ddrl_sched.report.html_words import KNOWS

WORDS = {
    "info": "what a scheduler knows of the servers when it decides; its classes, from little to much, are:",
    **{name: f"(info) {text}" for name, text in KNOWS.items()},
    "rule clean": "the rules by which delays are computed: clean is the simulator's own model with links and queues, "
    "the same for all schedulers; other rules are those of a published study",
    "load": "mean work that arrives per second over what all servers can do per second",
    "realised": "the load that really arrived in the simulated traces, which are finite and random",
    "seeds x traces": "seeds of training (or of a rule that draws) times task traces on which each was measured",
    "overloaded": "causes a load of 1 or more: such schedulers send more work than the servers can do; their queues "
    "grow, so the mean depends only on how long is simulated",
    "backlogged": "causes a load below 1, yet its queues are still longer late in a trace than early",
    "late": "share of tasks whose result comes after their deadline",
    "p95, p99": "delays that 5 % and 1 % of the tasks exceed",
    "servers": "mean number of servers that share a task",
    "probes": "questions about queues sent to servers, per task",
    "decide": "CPU time of deciding and placing a task, on the machine that ran it",
    "optimal": "the published study's name for a rule that is greedy task by task: no bound, others can be better",
}


def glossary() -> str:
    """The words as a list of HTML."""
    lines = "".join(f"<dt><code>{escape(word)}</code></dt><dd>{escape(text)}</dd>" for word, text in WORDS.items())
    return f"<dl>{lines}</dl>"
