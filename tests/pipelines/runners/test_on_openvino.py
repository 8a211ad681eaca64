"""OpenVINO against torch: the same pictures, its graphs kept, and torch where it cannot draw."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from app.preparing import start
from evaluation.inference_cases import CASES
from models.autoencoder import build_autoencoder
from models.defaults import ImageCondition
from models.errors import RequestError, StudioError
from models.folder import load_model
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextStates
from pipelines.local_engine import TORCH_VERSION, LocalEngine
from pipelines.prompt.expand import PromptFiles
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from pipelines.runners import graphs
from pipelines.runners.asleep import wake
from pipelines.runners.choice import CHOICE, measure, read_choice
from pipelines.runners.folder import GRAPHS_VARIABLE, graph_folder
from pipelines.runners.on_openvino import OpenVINORunner
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
STARTER = ROOT / "checkpoints" / "starter"
REQUEST = GenerationRequest(
    prompt="a red apple", width=32, height=32, steps=3, guidance_scale=2.0, sampler="Euler", seed=1
)


@pytest.fixture(scope="module")
def engine(graphs_apart: None, tiny_model_folder: Path) -> LocalEngine:
    return LocalEngine(tiny_model_folder, "cpu", runner="openvino")


def opened(model: LatentDiffusionModel, precision: str = "") -> OpenVINORunner:
    return OpenVINORunner(model, graphs.ready_graphs(model), precision)


def the_result(engine: LocalEngine, request: GenerationRequest) -> GenerationResult:
    *_, result = engine.generate(request)
    assert isinstance(result, GenerationResult)
    return result


def difference(one: GenerationResult, other: GenerationResult) -> int:
    """The largest, in 255ths, of any pixel."""
    pairs = zip(one.images, other.images, strict=True)
    return max(int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max()) for a, b in pairs)


def in_f32(engine: LocalEngine) -> LocalEngine:
    """The same engine, whatever this processor prefers."""
    models = filter(None, (engine.model, engine.model.instant))
    engine._fast = {one.model_id: opened(one, "f32") for one in models}
    return engine


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"count": 3, "width": 48},
        {"prompt": "a dog and a cat left of an apple, style"},
        {"guidance_scale": 1.0},
    ],
    ids=["plain", "batch of another size", "longer prompt", "one row"],
)
def test_one_graph_draws_every_size_batch_and_prompt_as_torch_does(
    engine: LocalEngine, changed: dict[str, object]
) -> None:
    request = dataclasses.replace(REQUEST, **changed)  # type: ignore[arg-type]
    fast, slow = the_result(in_f32(engine), request), the_result(engine.on_torch(), request)
    assert fast.engine.startswith("openvino cpu f32 2")
    assert slow.engine == f"torch cpu float32 {TORCH_VERSION}"
    assert fast.note == slow.note == ""
    assert difference(fast, slow) <= 2


@pytest.mark.parametrize("kind", ["epsilon", "classes", "inpainting"])
def test_models_of_other_kinds_are_drawn_as_torch_does(tmp_path: Path, kind: str) -> None:
    folder = make_tiny_model(
        tmp_path / "m",
        "epsilon" if kind == "epsilon" else "flow",
        classes=["apple", "dog"] if kind == "classes" else None,
        image_condition=ImageCondition("inpaint") if kind == "inpainting" else None,
    )
    engine = in_f32(LocalEngine(folder, "cpu", runner="openvino"))
    request = dataclasses.replace(REQUEST, prompt="apple")
    fast = the_result(engine, request)
    assert fast.engine.startswith("openvino")
    assert difference(fast, the_result(engine.on_torch(), request)) <= 2


def test_a_codebook_is_looked_up_on_torch_and_decoded_on_openvino(tiny_model_folder: Path) -> None:
    torch.manual_seed(0)
    vq = build_autoencoder("tiny", "vq").eval().requires_grad_(False)
    model = dataclasses.replace(load_model(tiny_model_folder), autoencoder=vq, model_id="with a codebook")
    latents = torch.randn(2, vq.latent_channels, 8, 8)
    assert (opened(model, "f32").decode(latents) - vq.decode(latents)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"tiling": True}, "seamless"), ({"width": 40}, "multiples of 16")],
    ids=["tiling", "size"],
)
def test_what_it_cannot_draw_is_drawn_by_torch_and_says_so(
    engine: LocalEngine, changed: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a UNet of one level more: the tiny one halves every size evenly that can be asked for.
    monkeypatch.setattr(engine._fast[engine.model.model_id], "_levels_multiple", 4)
    request = dataclasses.replace(REQUEST, **changed)  # type: ignore[arg-type]
    result = the_result(engine, request)
    assert result.engine == f"torch cpu float32 {TORCH_VERSION}"
    assert words in result.note
    assert difference(result, the_result(engine.on_torch(), request)) == 0


def test_a_lora_from_a_wildcard_is_drawn_by_torch(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "thing.txt").write_text("dog <lora:some:1>\n")
    engine = LocalEngine(engine.model, "cpu", files=PromptFiles(tmp_path), runner="openvino")
    runner, note = engine._choose(engine.model, dataclasses.replace(REQUEST, prompt="a __thing__"))
    assert runner is None
    assert "LoRA" in note


def test_what_is_decoded_in_tiles_says_so(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.local_engine.WHOLE_BYTES", 0)
    runner, note = engine._choose(engine.model, REQUEST)
    assert runner is not None
    assert "tiles" in note


def test_a_closed_generator_computes_nothing_more(engine: LocalEngine) -> None:
    runner = opened(engine.model)
    calls = []

    class Counting(OpenVINORunner):
        def __init__(self) -> None:
            self.name = runner.name

        def unet(self, z: torch.Tensor, t: torch.Tensor, states: TextStates) -> torch.Tensor:
            calls.append("unet")
            return runner.unet(z, t, states)

        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            calls.append("decode")
            return runner.decode(latents)

        why_not = runner.why_not  # type: ignore[assignment]

    watched = engine.on_torch()
    watched._wanted, watched._fast = "openvino", {engine.model.model_id: Counting()}
    drawing = watched.generate(REQUEST)
    assert isinstance(next(drawing), StepEvent)
    drawing.close()
    assert calls == ["unet"]
    the_result(watched, REQUEST)
    assert calls == ["unet", *["unet"] * REQUEST.steps, "decode"]


def test_a_second_start_reads_what_the_first_kept_and_damage_is_made_good(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = graphs.ready_graphs(engine.model)  # of which those of other tests may have taken the place
    convert, calls = graphs.convert, []
    monkeypatch.setattr(graphs, "convert", lambda model: calls.append(model) or convert(model))
    graphs.ready_graphs(engine.model)
    assert calls == []
    weights = folder / "unet.bin"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.unlink()  # the old bytes are mapped into memory
    weights.write_bytes(data)
    graphs.ready_graphs(engine.model)
    assert len(calls) == 1
    assert graphs.whole(folder)
    (folder / "manifest.json").unlink()  # as if cut off
    graphs.ready_graphs(engine.model)
    assert len(calls) == 2
    assert not list(folder.parent.glob("*.partial"))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rows_are_what_they_are_whatever_is_computed_at_a_time(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    model = engine.model
    wake(model)
    fast = opened(model, "f32")
    for rows in (1, 2, 3, 8):
        states = model.text_encoder.encode([f"a {n} of apples" for n in range(rows)])
        z, t = torch.randn(rows, model.autoencoder.latent_channels, 8, 8), torch.rand(rows) * 999
        expected = model.denoiser.runner(z, t, states)
        assert (fast.unet(z, t, states) - expected).abs().max() < 2e-5 * expected.abs().max()
        pixels = fast.decode(z)
        assert (pixels - model.autoencoder.decode(z)).abs().max() < 1e-4
        fast.unet(z, t, states)
        assert torch.equal(fast.decode(z), pixels)  # nothing of the call before is left or lost


@pytest.mark.parametrize(("scale", "bytes_each"), [(1.0, 2), (1 + 2**-12, 4)], ids=["of halves", "of others"])
def test_graphs_are_kept_in_half_precision_where_that_changes_no_weight(
    tiny_model_folder: Path, scale: float, bytes_each: int
) -> None:
    model = load_model(tiny_model_folder)
    for weight in model.denoiser.unet.parameters():
        weight.mul_(scale)
    model = dataclasses.replace(model, model_id=f"scaled by {scale}")
    fast = opened(model, "f32")
    size = (graph_folder(model.model_id) / "unet.bin").stat().st_size
    assert size == pytest.approx(
        bytes_each * sum(one.numel() for one in model.denoiser.unet.parameters()), rel=0.03
    )
    states = model.text_encoder.encode(["a red apple"])
    z, t = torch.randn(1, model.autoencoder.latent_channels, 8, 8), torch.full((1,), 613.7)
    expected = model.denoiser.runner(z, t, states)
    assert (fast.unet(z, t, states) - expected).abs().max() < 2e-5 * expected.abs().max()


def test_graphs_used_longest_ago_go(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(graphs, "KEPT_MODELS", 2)
    monkeypatch.setattr(graphs, "convert", lambda model: {})
    monkeypatch.setattr(graphs, "whole", lambda folder: folder.exists())
    for number, name in enumerate("abca"):
        folder = graphs.ready_graphs(dataclasses.replace(engine.model, model_id=name))
        os.utime(folder, (number, number))
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == {graph_folder("a"), graph_folder("c")}


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), RuntimeError("no such operation")]
)
def test_what_cannot_be_converted_or_written_is_told_in_a_sentence(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(model: object) -> None:
        raise failure

    monkeypatch.setattr(graphs, "convert", fail)
    with pytest.raises(StudioError, match="--engine torch"):
        graphs.ready_graphs(dataclasses.replace(engine.model, model_id="another"))
    folder = graph_folder("another")
    assert not [file for file in folder.parent.iterdir() if file.is_dir() and file.stem == folder.name]


def test_auto_takes_what_was_measured_to_be_faster_here(
    engine: LocalEngine, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path))
    auto = LocalEngine(tiny_model_folder, "cpu", runner="auto")
    assert auto.unprepared
    assert the_result(auto, REQUEST).engine == f"torch cpu float32 {TORCH_VERSION}"
    choice = measure(auto.model)
    assert choice == read_choice(auto.model.model_id)
    assert not auto.unprepared
    assert 0 < choice.openvino_seconds < 60 > choice.torch_seconds > 0
    file = graph_folder(auto.model.model_id) / CHOICE
    for torch_seconds, engine_name in ((0.0, "torch cpu"), (1e9, "openvino cpu")):
        file.write_text(json.dumps(dataclasses.asdict(choice) | {"torch_seconds": torch_seconds}))
        assert the_result(auto, REQUEST).engine.startswith(engine_name)  # without a restart
    assert auto.name.startswith("openvino cpu")
    file.write_text(json.dumps(dataclasses.asdict(choice) | {"processor": "another one"}))
    assert read_choice(auto.model.model_id) is None
    file.write_text("{")
    assert read_choice(auto.model.model_id) is None


@pytest.mark.exhaustive
def test_a_process_of_its_own_prepares_a_model_and_its_student(taught_model_folder: Path) -> None:
    assert start(taught_model_folder).wait() == 0
    model = load_model(taught_model_folder)
    assert model.instant is not None
    assert read_choice(model.model_id) is not None
    assert read_choice(model.instant.model_id) is not None
    engine = in_f32(LocalEngine(model, "cpu", runner="openvino"))
    request = dataclasses.replace(REQUEST, instant=True, guidance_scale=1.0)
    assert difference(the_result(engine, request), the_result(engine.on_torch(), request)) <= 2


def test_openvino_is_refused_where_it_cannot_keep_the_weights(tiny_model_folder: Path) -> None:
    with pytest.raises(RequestError, match="--engine torch"):
        LocalEngine(tiny_model_folder, "cpu", torch.bfloat16, runner="openvino")
    assert (
        LocalEngine(tiny_model_folder, "cpu", torch.bfloat16, runner="auto").name
        == f"torch cpu bfloat16 {TORCH_VERSION}"
    )


def test_nothing_is_told_to_its_makers(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('it connects')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from pipelines.runners.graphs import import_openvino\n"
        "import torch\n"
        "openvino = import_openvino()\n"
        "openvino.convert_model(torch.nn.Linear(2, 2), example_input=(torch.zeros(1, 2),))\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not (tmp_path / "intel").exists()


def computes_in_bf16() -> bool:
    return "BF16" in graphs.import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_the_starter_draws_the_same_pictures_in_each_precision_of_this_processor() -> None:
    model = load_model(STARTER)
    engine = LocalEngine(model, "cpu", runner="openvino")
    for precision in ("f32", "bf16") if computes_in_bf16() else ("f32",):
        engine._fast = {model.model_id: opened(model, precision)}
        errors = []
        for request in CASES["starter-b1"].requests(STARTER, 12):
            fast, slow = the_result(engine, request), the_result(engine.on_torch(), request)
            assert fast.engine.startswith(f"openvino cpu {precision}")
            if precision == "f32":
                assert difference(fast, slow) <= 2
            one, other = (np.asarray(result.images[0], float) for result in (fast, slow))
            errors.append(max(((one - other) ** 2).mean(), 1e-9))
        decibels = 10 * np.log10(255**2 / np.array(errors))
        assert np.median(decibels) >= 35
        assert decibels.min() >= 28
