"""Before work starts: whether all workers have the code, packages, devices and files that this process counts on."""

from collections.abc import Mapping

from engine import environment
from engine.workers.protocol import Workers
from jobs.layout import Layout
from schemas.errors import InputError
from schemas.study import Study


def check_workers(workers: Workers, study: Study, layout: Layout) -> None:
    """Compare what every worker brings and sees with this process, and with one another; also of those yet to come.

    Raises
    ------
    InputError
        Something differs; the message is one table of it.
    """
    needed = [*study.corpus.files.values(), *study.links.files.values(), *(c.model for c in study.checkpoints.values())]
    needed += [file for task in study.downstream.values() for file in task.files] + [*study.tag_files]
    asked = layout.root, layout.lease, needed
    found = workers.each(environment.describe, *asked)
    broken = {worker: value for worker, value in found.items() if not isinstance(value, Mapping)}
    if broken:
        worker, why = next(iter(broken.items()))
        raise InputError(
            f"{len(broken)} of {len(found)} workers cannot run Colign ({worker}: {type(why).__name__}: {why}); install "
            "the same version of it, with the same packages, as here"
        )
    if not found:
        return
    here = environment.describe(*asked)
    first = next(iter(found.values()))
    rows: list[str] = []
    for what in here:
        expected = first[what] if what in environment.OWN else here[what]
        others: dict[str, list[str]] = {}
        for worker, theirs in found.items():
            if theirs[what] != expected:
                others.setdefault(theirs[what], []).append(worker)
        where = "on the first worker" if what in environment.OWN else "here"
        rows += [
            f"  {what}: {expected} {where}, {value} on {len(of)} of {len(found)} workers ({', '.join(of[:3])})"
            for value, of in others.items()
        ]
    if rows:
        raise InputError(
            "workers differ, so the study would fail there or give other bits:\n"
            + "\n".join([*rows, environment.REMEDY])
        )
    workers.require(environment.compare, first, *asked)
