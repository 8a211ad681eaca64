"""Files of a model folder, JSON and safetensors, read with distrust; models/writing.py writes them.

Nothing here imports torch before a tensor is asked for, so that a folder can be checked in milliseconds.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.config_keys import refuse_code
from models.errors import ModelError
from models.other_forms import CONVERT, PICKLE_SUFFIXES, refuse_other_form

if TYPE_CHECKING:
    import torch

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself
MAX_JSON_BYTES = 4_000_000
LORA_FILE = "pytorch_lora_weights.safetensors"  # of adapters: those of a run, and a student's
WEIGHT_NAMES = (  # as diffusers and transformers write them
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.safetensors",
    "model.fp16.safetensors",
    LORA_FILE,
)
FLOAT_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
INTEGER_BYTES = {"I64": 8, "I32": 4}
UNREAD = ("position_ids", "num_updates")  # how the names of such tensors end


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a safetensors header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


def parse_json(text: bytes, source: str) -> dict[str, Any]:
    """Read a JSON object, refusing duplicate keys, NaN and Infinity; `source` names it in errors."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} occurs twice")
        return result

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # ValueError covers bad UTF-8 and bad JSON
        raise ModelError(f"{source} is damaged: {error}; get the file again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{source} is damaged: it holds no JSON object; get the file again")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON file of a model folder.

    Raises ModelError where it is missing, too large or damaged, or asks for code of its own.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path} is larger than {MAX_JSON_BYTES} bytes, no config is; remove it")
        value = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); get the file again") from error
    refuse_code(value, str(path))
    return value


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Read and verify the header of a safetensors file without touching its tensors.

    The tensors must fill the file without holes or overlaps and be float16, bfloat16 or float32; integers
    that files carry and nobody reads, such as the `position_ids` of older text encoders, are left out of the
    answer.
    Raises ModelError. Source: the safetensors format description (github.com/huggingface/safetensors).
    """

    header, length, size = _open_header(path)
    header.pop("__metadata__", None)
    entries: dict[str, TensorEntry] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise _damaged(path, f"tensor {name!r} is not described by dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        for numbers in (shape, offsets):
            if not isinstance(numbers, list) or any(type(n) is not int or n < 0 for n in numbers):
                raise _damaged(path, f"tensor {name!r} has a shape or offsets that are no lists of counts")
        ignored = dtype in ("I64", "I32") and name.endswith(UNREAD)
        known = INTEGER_BYTES if ignored else FLOAT_BYTES
        item_bytes = known.get(dtype) if isinstance(dtype, str) else None
        if item_bytes is None:
            raise ModelError(f"{path}: tensor {name!r} is {dtype}; only F16, BF16 and F32 weights are read")
        fills = len(offsets) == 2 and offsets[1] - offsets[0] == item_bytes * prod(shape)
        if not fills or max(shape, default=0) > size:  # a tensor of nothing may have any other side
            raise _damaged(path, f"tensor {name!r} does not fill its offsets")
        spans.append((offsets[0], offsets[1]))
        if not ignored:
            entries[name] = TensorEntry(dtype, tuple(shape))
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise _damaged(path, "its tensors overlap or leave holes")
        end = stop
    if 8 + length + end != size:
        raise _damaged(path, "its tensors do not fill the file, as after a broken download")
    if not entries:
        raise _damaged(path, "it holds no tensors")
    return entries


def read_metadata(path: Path) -> dict[str, str]:
    """The free entries of a safetensors header, text by name; ModelError for a file that cannot be read."""
    given = _open_header(path)[0].get("__metadata__", {})
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise _damaged(path, "its metadata is no list of texts")
    return given


def _open_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header as it stands, its length in bytes and that of the whole file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < 8:
                raise _damaged(path, "it is shorter than eight bytes")
            (length,) = struct.unpack("<Q", prefix)
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise _damaged(path, "its header would be longer than the file or the format allows")
            return parse_json(file.read(length), f"the header of {path}"), length, size
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); get the file again") from error
    except ModelError:
        refuse_other_form(path)  # which says more
        raise


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path} is not a sound safetensors file ({reason}); get the file again")


def find_weights(folder: Path) -> Path:
    """The weights file of a part of a model folder: full precision if there, else the fp16 variant."""
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(file.name for file in folder.glob("*") if file.suffix.lower() in PICKLE_SUFFIXES)
    if others:
        raise ModelError(f"{folder} holds only {others[0]}, which can run code when read; {CONVERT}")
    if any(folder.glob("*.safetensors.index.json")):
        raise ModelError(f"{folder} holds weights in several files; save them as one {WEIGHT_NAMES[0]}")
    raise ModelError(f"{folder} holds no weights; the model folder is incomplete")


def load_weights(path: Path, names: Mapping[str, str] | None = None) -> "dict[str, torch.Tensor]":
    """Load every tensor of a safetensors file to the CPU, as float32.

    Of a file that holds more, those that `names` lists, by the names that it gives them.
    Raises ModelError for a file that read_header refuses and for NaN or infinite values.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    entries = read_header(path)
    weights: dict[str, torch.Tensor] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in entries if names is None else names:
                tensor = file.get_tensor(name)
                if not torch.isfinite(tensor).all():
                    raise ModelError(
                        f"{path}: tensor {name!r} holds NaN or infinite values; get the file again"
                    )
                # A copy in any case: the file may be replaced while its memory map is in use.
                weights[name if names is None else names[name]] = tensor.to(torch.float32, copy=True)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as safetensors ({error}); get the file again") from error
    return weights


def build_module(
    factory: "Callable[[], torch.nn.Module]", weights: "Mapping[str, torch.Tensor]", source: Path
) -> "torch.nn.Module":
    """Make a module without allocating it twice and give it `weights`, every tensor of it exactly once.

    The module is first made without storage, so a config that asks for more memory than the file holds
    costs nothing. Raises ModelError naming the first tensor that is missing, of no use or of another shape.
    """
    import torch

    try:
        with torch.device("meta"):
            module = factory()
    except (
        Exception
    ) as error:  # constructors of other libraries raise anything at a value they did not expect
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(f"{source.parent}/config.json cannot be built ({reason}); get it again") from error
    own = module.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    if missing:
        raise ModelError(
            f"{source} lacks {len(missing)} tensors, first {missing[0]!r}; its config does not fit"
        )
    if unexpected:
        raise ModelError(
            f"{source} has {len(unexpected)} tensors more, first {unexpected[0]!r}; its config does not fit"
        )
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            raise ModelError(
                f"{source}: tensor {name!r} has shape {tuple(weights[name].shape)}, its config asks for "
                f"{tuple(tensor.shape)}"
            )
    module.load_state_dict(dict(weights), assign=True)
    for owner in module.modules():  # buffers that no file holds; of those, two kinds are known
        for name, buffer in owner.named_buffers(recurse=False):
            if not buffer.is_meta:
                continue
            if name not in ("position_ids", "token_type_ids"):
                raise ModelError(f"{source}: the class keeps {name!r} outside its file; it is not supported")
            length = buffer.shape[-1]
            row = torch.arange(length) if name == "position_ids" else torch.zeros(length, dtype=torch.long)
            setattr(owner, name, row.expand(buffer.shape))
    return module


def sha256(path: Path) -> str:
    """The SHA-256 of a file as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
