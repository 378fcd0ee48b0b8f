"""What vectors take on disk and in memory, by arithmetic alone."""

from engine.activations import BLOCKS, Extraction
from engine.model.pieces import BATCH_SUBWORDS
from engine.text import BLOCK
from jobs.clustering import PROCESS
from jobs.selections import Text
from jobs.tasks import Context
from schemas.study import Activations

TEXT_BLOCKS = 128 * BLOCK
"""Bytes of the blocks of text in memory while it is read or written (measured: 29 MiB)."""

_FORM = 48
"""Bytes of a word type in the vocabulary of a stored text: UTF-8 and an offset, twice while it is put together."""

_WORD = 80
"""Bytes of a word of the sentences of one shard: a string, and numbers of its sub-words."""


def disk(context: Context, text: Text) -> list[dict[str, str | int]]:
    """Disk that vectors take: one row a checkpoint, stack and language, bytes of a layer and of all layers.

    None while the selection is not known.
    """
    if not text.selected:
        return []
    settings = context.study.activations
    rows: list[dict[str, str | int]] = []
    for (checkpoint, stack, language), task in context.extractions.items():
        layer = layer_bytes(task, text.selected_tokens[language], settings)
        layers = len(task.wanted.layers)
        rows.append(
            {
                "checkpoint": checkpoint,
                "stack": stack,
                "language": language,
                "layers": layers,
                "layer_bytes": layer,
                "bytes": layer * layers + text.selected_tokens[language] * TOKEN_BYTES,
            }
        )
    return rows


def layer_bytes(task: Extraction, tokens: int, settings: Activations) -> int:
    """Bytes on disk of one layer of some tokens."""
    itemsize = 2 if settings.dtype == "float16" else 4  # auto may become float32
    return tokens * task.shape.hidden * itemsize


def extraction_memory(task: Extraction, text: Text, settings: Activations) -> int:
    """Projected peak memory of a process that extracts, in bytes."""
    tokens = text.selected_tokens[task.language]
    shards = -(-tokens // settings.shard_tokens)
    shard = layer_bytes(task, min(tokens, settings.shard_tokens), settings)
    blocks = min(BLOCKS, shards) * len(task.wanted.layers) * shard
    # two writers, each with a layer of a shard, its encoded chunks, and the shard made of them
    vectors = blocks + BLOCKS * 2 * shard
    languages = [task.language] if task.source is None else [task.language, task.source]
    words = sum(
        min(settings.shard_tokens, text.sentences) * text.tokens[lang] // text.sentences * _WORD
        + text.types[lang] * _FORM
        for lang in languages
    )
    return PROCESS + weights(task) + _forward(task) + vectors + words + TEXT_BLOCKS


TOKEN_BYTES = 16
"""Bytes on disk, about, of the words, numbers and marks of one token, compressed."""


def offloaded(task: Extraction) -> bool:
    """Whether the weights are larger than the room for them in host memory, and read again in every pass."""
    itemsize = 4 if task.wanted.compute == "float32" else 2
    return task.memory is not None and itemsize * task.shape.parameters > task.memory


def weights(task: Extraction) -> int:
    """Bytes of a model's weights that lie in host memory."""
    if offloaded(task):
        return task.memory or 0
    # the error of bfloat16 is measured beside a copy in float32
    return (4 if task.wanted.compute == "float32" else 2 + 4) * task.shape.parameters


def _forward(task: Extraction) -> int:
    """Bytes of one forward pass in every thread: kept states, and a block's inner activations."""
    subwords = task.wanted.batch_subwords or BATCH_SUBWORDS["cpu"]
    block = 6 * task.shape.hidden + 2 * task.shape.inner
    return task.threads * subwords * 4 * (len(task.wanted.layers) * task.shape.hidden + block)
