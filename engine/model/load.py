"""Loading a checkpoint: weights, tokenizer, and what is wrong with them."""

import tempfile
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer

from engine.model.shape import check_trust, describe, origin
from schemas.errors import InputError

_ROOM = 0.8
"""Share of a GPU's free memory that weights may take; the rest is for a forward pass and blocks of vectors."""


def load_tokenizer(model: str, *, trusted: bool = False) -> Any:
    """The tokenizer of a checkpoint; `trusted` as in `engine.model.shape.describe`.

    Raises
    ------
    InputError
        There is none, or it cannot tell which word a sub-word comes from.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(**origin(model, trusted=trusted))
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _unloadable(model, error) from error
    if not tokenizer.is_fast:
        raise InputError(f"{model}: its tokenizer cannot tell words from sub-words; save a fast one (tokenizer.json)")
    # where no tokenizer is saved, transformers makes one up of special sub-words alone
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_ids) + 1:
        raise InputError(
            f"{model}: has no tokenizer, every word would be unknown; write the tokenizer's files into the folder "
            "with its save_pretrained"
        )
    return tokenizer


def load_network(
    model: str, compute: str, *, final_norm: bool, memory: int | None, trusted: bool = False
) -> tuple[Any, bool]:
    """The weights of a checkpoint, on the GPU if there is one, ready to read; and whether they are spread or offloaded.

    Parameters
    ----------
    compute
        `float32` or `bfloat16`: the type of weights and activations.
    final_norm
        Whether the last hidden state is the one after the model's final norm, where it has one.
    memory
        Bytes that weights may take in host memory. What fits neither one GPU nor that is spread over all GPUs, host
        memory and, read again in every pass, the checkpoint's own safetensors files (accelerate's device_map).
    trusted
        As in `engine.model.shape.describe`.

    Raises
    ------
    InputError
        The checkpoint cannot be loaded, or lacks weights; the message says what to do.
    """
    dtype = getattr(torch, compute)
    options, device = _placement(model, describe(model, trusted=trusted).parameters * dtype.itemsize, memory)
    try:
        network, info = AutoModel.from_pretrained(
            **origin(model, trusted=trusted),
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise _unloadable(model, error) from error
    if mismatched := sorted(info["mismatched_keys"]):
        name, found, expected = mismatched[0]
        raise InputError(
            f"{model}: weight {name} has shape {tuple(found)}, expected {tuple(expected)}; use a checkpoint that "
            "matches its config.json"
        )
    if missing := sorted(k for k in info["missing_keys"] if not k.startswith("pooler")):
        raise InputError(
            f"{model}: the checkpoint lacks weights of the model ({missing[0]} and {len(missing) - 1} more); its "
            "vectors would be random. Use a checkpoint that matches its config.json"
        )
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # a vector of the whole sentence, which nobody reads
    if not final_norm:
        for module in network.modules():
            if hasattr(module, "config"):
                module.config.tie_last_hidden_states = False
    if not options:
        network = network.to(device)
    return network.eval(), bool(options)


def _placement(model: str, nbytes: int, memory: int | None) -> tuple[dict[str, Any], torch.device]:
    """Options of `from_pretrained` for weights of a size, and the device that batches go to."""
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    free = {gpu: int(torch.cuda.mem_get_info(gpu)[0] * _ROOM) for gpu in gpus}
    device = torch.device("cuda" if free else "cpu")
    room = free[0] if free else memory
    if room is None or nbytes <= room:
        return {}, device
    folder = tempfile.gettempdir()  # only weights that no safetensors file holds would be written there
    held = {} if memory is None else {"cpu": memory}
    return {"device_map": "auto", "max_memory": free | held, "offload_folder": folder}, device


def check_vocabulary(model: str, tokenizer: Any, network: Any) -> None:
    """Refuse a tokenizer that numbers sub-words beyond the model's embeddings."""
    highest = max(tokenizer.get_vocab().values())
    if (rows := network.get_input_embeddings().num_embeddings) <= highest:
        raise InputError(
            f"{model}: its tokenizer numbers sub-words up to {highest}, the model embeds {rows}; "
            "use the tokenizer that the model was trained with"
        )


def _unloadable(model: str, error: Exception) -> InputError:
    check_trust(model, error)
    if isinstance(error, ImportError | ValueError) and "requires `accelerate`" in str(error):
        return InputError(
            f"{model}: is larger than the memory for weights and must be spread, which needs accelerate: "
            "pip install accelerate, or give the machine more memory"
        )
    return InputError(
        f"{model}: cannot be loaded: {' '.join(str(error).split())}; a checkpoint is a folder that "
        "save_pretrained of model and tokenizer has written: save or copy it again"
    )
