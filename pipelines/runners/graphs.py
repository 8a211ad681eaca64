"""A model's UNet and decoder as OpenVINO graphs, converted once and kept in a folder.

One graph serves every size, batch and length of prompt: with all shapes fixed OpenVINO 2026.4.1 was hardly
faster, and crashed the process on a Zen 3 (docs/performance.md).
"""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from models.autoencoder import Autoencoder
from models.denoiser import UNetRunner
from models.errors import RequestError, StudioError
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextStates
from models.weights import sha256
from pipelines.runners.asleep import wake, wake_autoencoder
from pipelines.runners.folder import graph_folder

FEW = 0.001  # of a graph's constants
KEPT_MODELS = 8  # a training exports a new model every few minutes
MANIFEST = "manifest.json"
UNET, DECODER = "unet.xml", "decoder.xml"


def import_openvino() -> Any:
    """The package, with nothing that sends: RequestError where it cannot be imported here.

    OpenVINO reports its import and each conversion to its makers. Where its package for that cannot be
    imported, it goes without.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise RequestError(f"OpenVINO cannot be imported here ({error}); use --engine torch.") from error
    return openvino


def whole(folder: Path) -> bool:
    """Whether a folder holds graphs, each with the bytes that were written."""
    try:
        sums: dict[str, str] = json.loads((folder / MANIFEST).read_bytes())
        return bool(sums) and all(sha256(folder / name) == total for name, total in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def ready_graphs(model: LatentDiffusionModel) -> Path:
    """The folder of a model's graphs, converted first where they are not there or damaged.

    Of several processes one converts. Those of models used longest ago go. Raises StudioError where the disk
    does not take them, or OpenVINO not the model.
    """
    folder = graph_folder(model.model_id)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not whole(folder):
                _write(model, folder)
            os.utime(folder)
            others = sorted(folder.parent.glob(f"*/{MANIFEST}"), key=lambda file: file.parent.stat().st_mtime)
        for old in others[:-KEPT_MODELS]:
            shutil.rmtree(old.parent, ignore_errors=True)
    except (OSError, RuntimeError) as error:  # the latter is OpenVINO's, also for a full disk
        reason = " ".join(str(error).split())[:200]
        raise StudioError(f"{folder} cannot be made for OpenVINO ({reason}); use --engine torch.") from error
    return folder


def _write(model: LatentDiffusionModel, folder: Path) -> None:
    """Convert a model aside and rename, so that a folder is whole or not there."""
    aside = folder.with_suffix(".partial")
    for old in (aside, folder):
        shutil.rmtree(old, ignore_errors=True)
    aside.mkdir()
    openvino = import_openvino()
    try:
        for name, graph in convert(model).items():
            openvino.save_model(graph, aside / name, compress_to_fp16=_bear_halves(graph))
        sums = {file.name: sha256(file) for file in sorted(aside.iterdir())}
        (aside / MANIFEST).write_text(json.dumps(sums), encoding="utf-8")
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # what a full disk cut off would keep it full


def convert(model: LatentDiffusionModel) -> dict[str, Any]:
    """OpenVINO's graphs of a model's UNet and, unless its latents are pixels, decoder; by file name."""
    wake(model)
    wake_autoencoder(model)
    unet, autoencoder = model.denoiser.unet, model.autoencoder
    config: Any = unet.config
    side = 4 * 2 ** (len(config.block_out_channels) - 1)  # four places on the coarsest level
    states = model.text_encoder.encode(["", ""])
    example = (torch.randn(2, config.in_channels, side, side), torch.full((2,), 500.0))
    graphs = {UNET: _convert(_UNet(unet), (*example, states.hidden, states.mask, states.pooled))}
    if autoencoder.regularizer is not None:
        raw = torch.randn(1, autoencoder.latent_channels, side, side)
        graphs[DECODER] = _convert(_Decoder(autoencoder), (raw,))
    return graphs


def _convert(network: nn.Module, example: tuple[Tensor, ...]) -> Any:
    openvino = import_openvino()
    # Channels stay: the second axis of what has four or, of pooled states, two, the last of token states.
    fixed = [{4: 1, 3: 2, 2: 1}.get(one.ndim) if one.is_floating_point() else None for one in example]
    shapes = [
        openvino.PartialShape([side if axis == channels else -1 for axis, side in enumerate(one.shape)])
        for one, channels in zip(example, fixed, strict=True)
    ]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of every `if` about a shape; why_not keeps to those traced here
        return openvino.convert_model(network, example_input=example, input=shapes)


def _bear_halves(graph: Any) -> bool:
    """Whether a graph's constants can be kept in half precision, as its weights were, and none change by it.

    What tracing made constant besides is rewritten as a product that bears it.
    """
    from openvino import Type, opset13

    constants = [
        op
        for op in graph.get_ordered_ops()
        if op.get_type_name() == "Constant" and op.get_element_type() == Type.f32
    ]
    others = [op for op in constants if not _is_half(op.data)]
    if sum(op.data.size for op in others) > FEW * sum(op.data.size for op in constants):
        return False
    for op in others:
        mantissa, exponent = np.frexp(op.data)
        exponent = exponent - 24  # of float32's mantissa as a whole number
        powers = [np.exp2(part).astype(np.float32) for part in (exponent // 2, exponent - exponent // 2)]
        if not all(map(_is_half, powers)):
            return False
        whole_number = opset13.convert(opset13.constant((mantissa * 2**24).astype(np.int32)), "f32")
        product = opset13.multiply(opset13.multiply(whole_number, powers[0]), powers[1])
        for reader in op.output(0).get_target_inputs():
            reader.replace_source_output(product.output(0))
    return True


def _is_half(values: NDArray[np.float32]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))


class _UNet(nn.Module):
    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet, self._run = unet, UNetRunner(unet)

    def forward(self, z: Tensor, t: Tensor, hidden: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        return self._run(z, t, TextStates(hidden, mask, pooled))


class _Decoder(nn.Module):
    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, raw: Tensor) -> Tensor:
        return self.autoencoder.reconstruct(raw)
