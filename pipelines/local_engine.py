"""LocalEngine draws with a model on this machine."""

import copy
import math
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import torch

from models.errors import RequestError
from models.latent_diffusion import LatentDiffusionModel
from models.lora import adapted
from models.single_file.vae import with_vae
from models.text_encoder import TextEncoder, TextStates
from models.text_pair import TextEncoderPair
from pipelines.adapters import networks
from pipelines.controlnets import ControlNets
from pipelines.device import choose_device
from pipelines.inputs import InputStore
from pipelines.memory import TOO_LITTLE, WHOLE_BYTES, OutOfMemoryError
from pipelines.placement import Placement, give_back, load_fitting, ran_out
from pipelines.prompt.compose import split_composition
from pipelines.prompt.encode import PromptEncoder
from pipelines.prompt.expand import PromptFiles, expand
from pipelines.prompt.lora import LoraTag
from pipelines.refusals import why_not
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from pipelines.runners.asleep import awake, fall_asleep, wake
from pipelines.runners.choice import read_choice
from pipelines.runners.graphs import ready_graphs
from pipelines.runners.on_openvino import OpenVINORunner
from pipelines.runners.on_torch import TorchRunner
from pipelines.state import State
from pipelines.text_to_image import final_size, text_to_image
from pipelines.tiles import layer_bytes

BATCH_PIXELS_CPU = 8 * 128 * 128  # a step of a batch should stay short, since Stop waits for it
BATCH_PIXELS_GPU = 4 * 512 * 512
CACHED_PROMPTS = 32
TORCH_VERSION = torch.__version__.partition("+")[0]  # without what it was built for, which the device tells
OTHER_AUTOENCODER = "Drawn on torch: OpenVINO's graph decodes with the model's own autoencoder."


class LocalEngine:
    """Draws with one model on one device, in float32 unless `dtype` says otherwise for the UNet.

    `model` is a model folder or file, or what load_model made of one; `vae` is a file whose autoencoder takes
    the place of the model's, and which torch decodes; `files` holds the styles and wildcards that prompts may
    name, `inputs` the pictures that requests are drawn with, `controlnets` the nets that they name. `runner`
    computes the networks: torch, openvino (converting the model first, where that was not done), or auto, the
    one that was measured to be faster. `compiled`: with torch.compile. Not for two threads at once.
    Raises: RequestError for a device or a runner that this machine does not have, OutOfMemoryError where the
    model does not fit; it can be drawn with in less memory than it likes.
    """

    def __init__(
        self,
        model: LatentDiffusionModel | Path | str,
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
        files: PromptFiles | None = None,
        inputs: InputStore | None = None,
        runner: str = "torch",
        compiled: bool = False,
        vae: Path | None = None,
        controlnets: ControlNets | None = None,
    ) -> None:
        self.inputs, self.controlnets = inputs, controlnets or ControlNets()
        self.device = choose_device(device)
        self._wanted = runner
        if (self.device.type, dtype) != ("cpu", torch.float32):
            if runner == "openvino":
                raise RequestError(
                    f"OpenVINO runs on the CPU from float32 weights, not on {self.device} in {dtype}; "
                    "use --engine torch."
                )
            self._wanted = "torch"
        automatic = self._wanted == "auto"
        self._own_weights = isinstance(model, Path | str)
        self.model = load_fitting(Path(model)) if isinstance(model, Path | str) else awake(model)
        if vae is not None:
            self.model = with_vae(self.model, vae)
        if self.model.vae is not None or isinstance(self.model.text_encoder, TextEncoderPair):
            if runner == "openvino":
                raise RequestError(
                    "OpenVINO draws with the model's own autoencoder, and not with SDXL; use --engine torch."
                )
            self._wanted = "torch"
        # What was measured for a model with its own autoencoder, and not used with another one, is told of.
        self._passed_over = automatic and self.model.vae is not None
        self.placement = Placement(self.model, self.device, dtype)
        for one in (self.model, self.model.instant):
            if one is not None:
                one.denoiser.runner = TorchRunner(one.denoiser.unet, compiled)
        self._torch_name = f"torch {self.device} {str(dtype).removeprefix('torch.')}"
        self._torch_name += f"{' compiled' if compiled else ''} {TORCH_VERSION}"
        self._fast: dict[str, OpenVINORunner] = {}  # by id of the model
        encoder = self.model.text_encoder
        # The name of a class is no prompt: every character of it counts.
        self._files = (files or PromptFiles()) if isinstance(encoder, TextEncoder) else None
        self._prompts = (
            PromptEncoder(encoder, self._files.embeddings)
            if isinstance(encoder, TextEncoder) and self._files is not None
            else None
        )
        self._states: OrderedDict[tuple[object, ...], TextStates] = OrderedDict()
        self._runner(self.model)  # converted or loaded now, and not with the first picture

    @property
    def name(self) -> str:
        """The engine, its device, its precision and its version: what draws if it can."""
        fast = self._fast.get(self.model.model_id)
        return self._torch_name if fast is None else fast.name

    @property
    def unprepared(self) -> bool:
        """Whether `auto` draws on torch because nothing was measured of this model yet."""
        return self._wanted == "auto" and read_choice(self.model.model_id) is None

    def on_torch(self) -> Self:
        """The same engine, drawing on torch alone."""
        other = copy.copy(self)
        other._wanted, other._fast, other._passed_over = "torch", {}, False
        return other

    def why_not(self, request: GenerationRequest) -> str | None:
        """A sentence saying why this model cannot do this request, or None if it can."""
        return why_not(request, self.model, self._files, self.inputs, self.controlnets)

    def batch_images(self, request: GenerationRequest) -> int:
        """How many pictures of a request are drawn at a time: what it asks for, or what memory takes."""
        if request.batch_size is not None:
            return request.batch_size
        pixels = BATCH_PIXELS_CPU if self.device.type == "cpu" else BATCH_PIXELS_GPU
        prompts = 1 if self._files is None else len(split_composition(request.prompt))
        return max(1, pixels // (math.prod(final_size(self.model, request)) * prompts))

    def generate(
        self, request: GenerationRequest, state: State | None = None
    ) -> Generator[StepEvent | GenerationResult, None, None]:
        """Yield one StepEvent per step, then the GenerationResult; closing the iterator stops the work.

        With a `state` the one picture of a request goes on from there.
        Raises RequestError, before the first event, with the words of `why_not`, and OutOfMemoryError.
        """
        request = request.resolve()  # which words are drawn hangs on the seed
        if reason := self.why_not(request):
            raise RequestError(reason)
        model = self.model.instant if request.instant else self.model
        assert model is not None
        weight = next(model.denoiser.unet.parameters())
        named = [control.controlnet for control in request.controls]
        nets = self.controlnets.load(named, self.device, weight.dtype)  # before what is left is planned with
        images, size = min(request.count, self.batch_images(request)), final_size(self.model, request)
        prompts = 1 + (1 if self._files is None else len(split_composition(request.prompt)))
        runner, note = self._choose(model, request)
        plan = self.placement.choose(size, images, prompts, model.denoiser.unet if runner is None else None)
        self.placement.arrange(plan)
        name = self._torch_name if runner is None else runner.name
        try:
            yield from text_to_image(
                model,
                request,
                batch_images=plan.images,
                encode=self.encode,
                adapt=partial(self.adapt, model),
                runner=runner,
                engine=", ".join(filter(None, (name, plan.in_words(images)))),
                note=note,
                files=self._files,
                inputs=self.inputs,
                state=state,
                plan=plan,
                nets=nets,
            )
        except Exception as error:
            if not ran_out(error):
                raise
        else:
            return
        give_back(self.device)  # no longer in the error's reach, which holds on to tensors
        raise OutOfMemoryError(
            f"{TOO_LITTLE}: it ran out at {size[0]} x {size[1]} pixels, {plan.images} at a time; choose a "
            "smaller size, draw fewer at a time, or close other programs."
        )

    def encode(self, prompt: str) -> TextStates:
        """The states (1, T, D) of one prompt, with its weights and learned words; the last ones are kept."""
        key = (prompt, *(() if self._files is None else self._files.embeddings.state(prompt)))
        if key not in self._states:
            encoder = self.model.text_encoder
            states = encoder.encode([prompt]) if self._prompts is None else self._prompts.encode(prompt)
            self._states[key] = states.to(self.device)
            if len(self._states) > CACHED_PROMPTS:
                self._states.popitem(last=False)
        self._states.move_to_end(key)
        return self._states[key]

    def learned(self, prompt: str) -> dict[str, int]:
        """The learned words in a prompt, and how many vectors each has."""
        files = {} if self._files is None else self._files.embeddings.in_words(prompt)
        return {name: file.vectors for name, file in files.items()}

    def _runner(self, model: LatentDiffusionModel) -> OpenVINORunner | None:
        """What draws a model in the place of torch: what was asked for, or what was measured to be faster."""
        if self._wanted == "torch":
            return None
        if model.model_id not in self._fast:
            # Looked for each time: it may be made meanwhile.
            if self._wanted == "auto" and not _faster_on_openvino(model):
                return None
            graphs = ready_graphs(model)
            if self._own_weights:
                fall_asleep(model)
                give_back(self.device)
            self._fast[model.model_id] = OpenVINORunner(model, graphs)
        return self._fast[model.model_id]

    def _choose(
        self, model: LatentDiffusionModel, request: GenerationRequest
    ) -> tuple[OpenVINORunner | None, str]:
        """What draws a resolved request in the place of torch, and why that is not all that was asked for."""
        runner = self._runner(model)
        if runner is None:
            passed_over = self._passed_over and _faster_on_openvino(model)
            return None, OTHER_AUTOENCODER if passed_over else ""
        pictures = (request,) if self._files is None else expand(request, self._files)
        if reason := runner.why_not(pictures):
            return None, reason
        pixels = math.prod(final_size(model, request)) * min(request.count, self.batch_images(request))
        in_tiles = (
            layer_bytes(model.autoencoder, pixels // model.autoencoder.downsampling_factor**2) > WHOLE_BYTES
        )
        return (
            runner,
            "Decoded on torch, in tiles: this is too large to be decoded at once." if in_tiles else "",
        )

    @contextmanager
    def adapt(self, model: LatentDiffusionModel, tags: Sequence[LoraTag]) -> Iterator[None]:
        """A model with the LoRAs of a picture's tags in it, while this lasts."""
        if self._files is None or not tags:
            yield
            return
        loras = [(self._files.loras.find(tag.name), tag.weight, tag.unet_weight) for tag in tags]
        wake(model)
        states, self._states = self._states, OrderedDict()  # a LoRA may change what prompts mean
        try:
            with adapted(networks(model), loras):
                yield
        finally:
            self._states = states


def _faster_on_openvino(model: LatentDiffusionModel) -> bool:
    """Whether a model was measured here, and OpenVINO is faster."""
    choice = read_choice(model.model_id)
    return choice is not None and choice.faster == "openvino"
