"""The concepts stage of a study: stores laid out, layers clustered, and each committed when it is written."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from engine import concepts, paths, store
from engine.concepts import Clustering
from engine.side_by_side import Wanted, cluster_all
from engine.workers.protocol import Workers
from jobs.tasks import Context, Outcome, Part, commit
from schemas.task import Key


def work(
    clusterings: Sequence[Clustering],
    left: Sequence[Key],
    context: Context,
    workers: Workers,
    note: Callable[[str], None],
) -> Iterator[int]:
    """Cluster the layers that are left; yields 1 for each that is done.

    Parameters
    ----------
    left
        Layers without a record.
    note
        Told what goes on.
    """
    settings, layout = context.study.concepts, context.layout
    prints = {task.part: context.fingerprint(Key("concepts", task.part)) for task in clusterings}
    wanted = []
    for task in clusterings:
        folder = layout.checkpoints(*task.part)
        if layers := tuple(int(key.part[-1]) for key in left if key.part[:-1] == task.part):
            wanted.append(Wanted(task, layers, paths.join(folder, prints[task.part])))
        else:
            paths.remove(folder)  # of a run that was killed right before

    def lay_out(task: Clustering) -> None:
        store.remove_other(task.path, prints[task.part])  # that a killed run had begun
        concepts.setup(task, settings, fingerprint=prints[task.part])

    done = partial(_commit, records=layout.records, prints=prints)
    for _ in cluster_all(wanted, settings, workers, note, done=done, lay_out=lay_out):
        yield 1
    for one in wanted:
        paths.remove(layout.checkpoints(*one.task.part))


def _commit(key: Key, started: float, outcome: Outcome, records: str, prints: Mapping[Part, str]) -> None:
    commit(key, records, prints[key.part[:-1]], started, outcome)
