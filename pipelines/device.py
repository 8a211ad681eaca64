"""Where networks are computed: the processor, or a GPU."""

import torch

from models.errors import RequestError


def choose_device(name: str = "auto") -> torch.device:
    """The device by name (auto, cpu, cuda, cuda:N, mps); RequestError if this machine does not have it."""
    kind, _, index = name.lower().partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind not in ("cpu", "cuda", "mps") or (index and (kind != "cuda" or not index.isdecimal())):
        raise RequestError(f'Unknown device "{name[:60]}"; there is auto, cpu, cuda, cuda:N and mps.')
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise RequestError(f"No {name}: torch sees {torch.cuda.device_count()} NVIDIA GPUs here. Try auto.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise RequestError("No mps: torch sees no Apple GPU here. Try auto.")
    return torch.device(kind, int(index)) if index else torch.device(kind)
