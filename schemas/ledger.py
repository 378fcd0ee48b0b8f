"""The ledger: every attempt at a task, of every run of a study."""

from schemas.dataset import Schema, Variable

WORK = ("text", "model", "copy", "compression", "disk")
"""Parts of the work of extraction; they overlap, so their sum may exceed the seconds of the attempt."""

LEDGER = Schema(
    "ledger",
    "Attempts at the tasks of a study, over all of its runs, in the order in which they began; steps of K-means are "
    "one row for each step and layer",
    (
        Variable("work", ("work",), "string", "part of the work of extraction", coordinate=True),
        Variable("key", ("attempt",), "string", "name of the task, or of the part whose step it is"),
        Variable("stage", ("attempt",), "string", "stage of the task"),
        Variable("step", ("attempt",), "string", "step of a part; empty for a task"),
        Variable("run", ("attempt",), "string", "name of the run: when it began, and a random number"),
        Variable("state", ("attempt",), "string", "done, failed, or lost with its worker or with the run"),
        Variable("number", ("attempt",), "int32", "number of the attempt at this task, from 1", units="count"),
        Variable("host", ("attempt",), "string", "computer at work; several where a step ran on more than one"),
        Variable("process", ("attempt",), "int64", "number of the process on its computer; 0 for several"),
        Variable("started", ("attempt",), "float64", "when it began, since 1970-01-01 UTC", units="s"),
        Variable("seconds", ("attempt",), "float64", "wall-clock time; of what is lost, until missed", units="s"),
        Variable("cpu_seconds", ("attempt",), "float64", "processor time of the process", units="s"),
        Variable("bytes_read", ("attempt",), "int64", "bytes read from files; of URLs not known", units="byte"),
        Variable("bytes_written", ("attempt",), "int64", "bytes written to files; to URLs not known", units="byte"),
        Variable("peak_memory", ("attempt",), "int64", "largest resident memory of the process so far", units="byte"),
        Variable("calls", ("attempt",), "int64", "calls that are summed", units="count"),
        Variable("work_seconds", ("attempt", "work"), "float64", "time in each part; NaN where it has none", units="s"),
        Variable("note", ("attempt",), "string", "why it failed"),
    ),
)
