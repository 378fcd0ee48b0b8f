"""The concepts stage of a study: stores laid out, layers clustered, and each committed when it is written."""

import time
from collections.abc import Callable, Iterator, Sequence

from engine import concepts, paths, store
from engine.concepts import Clustering
from engine.side_by_side import Pending, cluster_all
from engine.workers.protocol import Workers
from jobs.tasks import Context, Part, commit
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
    layers: dict[Part, list[int]] = {}
    for key in left:
        layers.setdefault(key.part[:-1], []).append(int(key.part[-1]))
    pending = []
    for task in clusterings:
        folder, fingerprint = layout.checkpoints(*task.part), prints[task.part]
        if task.part in layers:
            pending.append(Pending(task, tuple(layers[task.part]), paths.join(folder, fingerprint), fingerprint))
        else:
            paths.remove(folder)  # of a run that was killed right before

    def lay_out(task: Clustering) -> None:
        store.remove_other(task.path, prints[task.part])  # that a killed run had begun
        concepts.setup(task, settings, fingerprint=prints[task.part])

    for key, seconds, outcome in cluster_all(pending, settings, workers, note, lay_out=lay_out):
        commit(key, layout.records, context.fingerprint(key), time.time() - seconds, outcome)
        yield 1
    for one in pending:
        paths.remove(layout.checkpoints(*one.task.part))
