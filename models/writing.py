"""Files of a model folder, JSON and safetensors, written whole or not at all."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from models.errors import ModelError

if TYPE_CHECKING:
    import torch


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, make it 0644 and move it into place.

    A file that has these bytes already is left alone.
    """
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes 0600, which another user could not read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync(path.parent)  # the new name itself must survive a power cut


def sync(path: Path) -> None:
    """Force a file's or a folder's bytes to the disk; Windows syncs no folders."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object for people to read: indented, keys in their order, a newline at the end."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def save_weights(
    path: Path,
    weights: "Mapping[str, torch.Tensor]",
    dtype: "torch.dtype | None",
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write tensors as safetensors in `dtype` (None: each in its own), as write_bytes does.

    `metadata` goes into the file's header.

    Raises ModelError where a weight is not finite in that type, before anything is written.
    """
    import torch
    from safetensors.torch import save

    stored: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        stored[name] = tensor.detach().to("cpu", dtype, copy=True).contiguous()
        if not torch.isfinite(stored[name]).all():
            raise ModelError(f"tensor {name!r} is not finite in {stored[name].dtype}; {path} is not written")
    content = save(stored, metadata={"format": "pt", **metadata})
    write_bytes(path, _in_order(content) if metadata else content)


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its free entries sorted, so that equal weights are equal bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    ordered += b" " * (-len(ordered) % 8)  # the format's alignment of the tensors that follow
    return len(ordered).to_bytes(8, "little") + ordered + content[8 + length :]
