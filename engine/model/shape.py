"""What a model can give and how large it is, known from its configuration and file heads, without its weights."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import InputError

_READ_BOTH_WAYS = ("xlnet", "bert-generation")
"""Classes that have a causal head and no masked one, and whose words nevertheless see what follows."""

_COMMIT = re.compile("@[0-9a-f]{40}$")
"""End of a hub name with a commit."""

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""How the names of weights end that torch has pickled."""

_ROBERTA_LIKE = ("camembert", "data2vec-text", "longformer", "roberta", "xlm-roberta", "xlm-roberta-xl", "xmod")
"""Classes whose positions start after the padding index."""


@dataclass(frozen=True)
class Shape:
    """What a model can give."""

    hidden: int
    """Length of a vector."""
    layers: dict[str, int]
    """Number of blocks of each stack; layer indices run from 0 (embedding output) to this."""
    max_subwords: int | None
    """Longest input in sub-words, special ones included; None where any length goes."""
    parameters: int
    """Number of weights: counted in the heads of its safetensors files, else a rough number from the configuration."""
    inner: int
    """Width of a block's inner layer."""
    vocabulary: int
    """Number of sub-words that it embeds."""
    causal: bool
    """Whether it is a decoder alone (GPT-2, Llama and their like): its decoder reads what it is given, unshifted."""

    @property
    def encoder_decoder(self) -> bool:
        """Whether an encoder reads a source while the decoder reads its translation."""
        return len(self.layers) == 2


def describe(model: str, *, trusted: bool = False) -> Shape:
    """Read what a model can give from its configuration, without its weights.

    Parameters
    ----------
    trusted
        Whether Python code that the model brings may run (`trust_remote_code` of transformers).

    Raises
    ------
    InputError
        There is no such model, its configuration cannot be read, it brings code that is not trusted, or has its
        weights in pickles alone.
    """
    auto = library().AutoConfig
    try:
        whole = auto.from_pretrained(**origin(model, trusted=trusted))
    except (OSError, ValueError, KeyError, ImportError) as error:
        check_trust(model, error)
        raise _unreadable(model, error) from error
    _check_pickled(model)
    config = whole if whole.is_encoder_decoder else whole.get_text_config()
    name = whole.model_type
    causal = not whole.is_encoder_decoder and (bool(getattr(config, "is_decoder", False)) or name in _causal_alone())
    blocks = int(config.num_hidden_layers)
    layers = {"decoder" if causal else "encoder": blocks}
    if whole.is_encoder_decoder:
        layers["decoder"] = int(getattr(config, "num_decoder_layers", None) or config.num_hidden_layers)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and name in _ROBERTA_LIKE:
        positions -= config.pad_token_id + 1
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", 0) or getattr(config, "d_ff", 0) or 4 * hidden)
    rough = sum(layers.values()) * (4 * hidden * hidden + 3 * hidden * inner) + int(config.vocab_size) * hidden
    return Shape(hidden, layers, positions, _counted(model) or rough, inner, int(config.vocab_size), causal)


def origin(model: str, *, trusted: bool = False) -> dict[str, Any]:
    """What `from_pretrained` is to open: a folder, or a hub name, which may end in @ and a revision.

    Code that a model brings is of that revision, too, where it lies in the same repository.
    """
    name, _, revision = model.rpartition("@")
    if not (name and revision) or name[0] in "/.~" or Path(model).is_dir() or Path(name).is_dir():
        return {"pretrained_model_name_or_path": model, "trust_remote_code": trusted}
    return {"pretrained_model_name_or_path": name, "revision": revision, "trust_remote_code": trusted}


def pinned(model: str) -> str:
    """A folder as it is; a hub name with the commit that it stands for now, so that others open the same.

    Raises
    ------
    InputError
        There is no such model, or it has no weights in safetensors.
    """
    if Path(model).is_dir() or is_pinned(model):
        return model
    import huggingface_hub  # noqa: PLC0415  (most models are folders)

    opened = origin(model)
    name = opened["pretrained_model_name_or_path"]
    try:
        held = huggingface_hub.hf_hub_download(name, "config.json", revision=opened.get("revision"))
    except (OSError, ValueError) as error:
        raise _unreadable(model, error) from error
    commit = Path(held).parent.name  # the hub's cache: snapshots/COMMIT/config.json
    _check_offered(model, name, commit)
    return f"{name}@{commit}"


def _check_offered(model: str, name: str, commit: str) -> None:
    """Refuse a repository without safetensors before the work that comes before they are loaded."""
    import huggingface_hub  # noqa: PLC0415

    try:
        files = huggingface_hub.list_repo_files(name, revision=commit)
    except (OSError, ValueError):
        return  # the hub is out of reach: what is in its cache is tried
    if not any(file.endswith(".safetensors") for file in files):
        raise InputError(
            f"{model}: has no weights in safetensors, and pickles, which can run any code, are never loaded; where the "
            "hub has converted it, in one of its pull requests, write NAME@refs/pr/NUMBER"
        )


def is_pinned(model: str) -> bool:
    """Whether this is a hub name that can mean one state of a model alone."""
    return not Path(model).is_dir() and _COMMIT.search(model) is not None


def _unreadable(model: str, error: Exception) -> InputError:
    return InputError(
        f"{model}: expected a model folder in transformers' format or a hub name, but no configuration could be "
        f"read ({str(error).splitlines()[0]}); a folder beside the study file is written with ./ before it"
    )


def library() -> Any:
    """Transformers, which is told to be quiet."""
    import transformers  # noqa: PLC0415  (seconds, which a command that opens no model must not take)

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _causal_alone() -> set[str]:
    """Classes of models that are decoders alone."""
    auto = library().models.auto.modeling_auto
    causal, masked = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return {*causal} - {*masked} - {*_READ_BOTH_WAYS}


def check_trust(model: str, error: Exception) -> None:
    """Explain an error of transformers that a model brings code of its own; without one it would ask on the terminal.

    Raises
    ------
    InputError
        That is the error.
    """
    if "trust_remote_code" in str(error):
        raise InputError(
            f"{model}: brings Python code of its own, which is not run unless asked; read it, and if you trust it, "
            "write trust_remote_code: true below the checkpoint's model (colign extract: --trust-remote-code)"
        ) from error


def _check_pickled(model: str) -> None:
    """Refuse a folder whose weights are pickles alone, before the work that comes before they are loaded."""
    names = [path.name for path in Path(model).iterdir()] if Path(model).is_dir() else []
    pickled = sorted(name for name in names if name.endswith(_PICKLED))
    if pickled and not any(name.endswith(".safetensors") for name in names):
        raise InputError(
            f"{model}: has its weights in {pickled[0]} alone, a pickle, which can run any code and is never loaded; "
            "expected model.safetensors: if you trust the file, load it with transformers' from_pretrained and write "
            "it with save_pretrained"
        )


def _counted(model: str) -> int:
    """Number of weights in the safetensors files that are loaded; 0 where there are none that can be read."""
    one, index = (Path(model) / f"model.safetensors{end}" for end in ("", ".index.json"))
    count = 0
    try:
        files = [one.name] if one.is_file() else sorted({*json.loads(index.read_text())["weight_map"].values()})
        for name in files:
            with one.with_name(name).open("rb") as file:
                head: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            count += sum(math.prod(entry["shape"]) for key, entry in head.items() if key != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
        return 0  # a damaged file is named when the model is loaded
    return count


def identity(model: str, *, trusted: bool = False) -> str:
    """Short hash of a model's content: configuration and tokenizer whole, of weights 64 pieces of 64 KiB and the size.

    Weights that were trained differ everywhere, so pieces tell them apart in milliseconds at any size. A model of a
    hub is known by its commit. Code counts where it is `trusted` and thus runs.
    """
    asked = "trust_remote_code" if trusted else ""
    if not Path(model).is_dir():
        return pinned(model) + asked
    found = hashlib.sha256(asked.encode())
    for path in sorted(Path(model).iterdir()):
        if path.suffix in (".json", ".txt", ".model") or (trusted and path.suffix == ".py"):
            found.update(path.name.encode() + path.read_bytes())
        elif path.suffix == ".safetensors":
            size = path.stat().st_size
            found.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                for piece in range(64):
                    file.seek(size * piece // 64)
                    found.update(file.read(2**16))
    return found.hexdigest()[:16]
