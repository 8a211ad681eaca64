import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import ConfigError, DataError
from models.folder import model_id
from models.lora import read_lora_file
from pipelines.local_engine import LocalEngine
from pipelines.prompt.expand import PromptFiles
from pipelines.request import GenerationRequest
from training import teach
from training.config import DiffusionConfig, load_config
from training.data.taught import write_taught
from training.distributed import connect
from training.teach import TeachStage, fitted, main


def arguments(pictures, model, outputs, **options):
    values = {"name": "zorp", "minutes": 0.0, "set": ["training.batch_size=6"], "run": outputs / "run"}
    return Namespace(pictures=pictures, model=model, loras=outputs / "loras", **(values | options))


@pytest.mark.slow
def test_a_taught_thing_is_drawn_by_its_name_and_its_tag(
    picture_folder, tiny_model_folder, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(teach, "FEWEST_STEPS", 40)
    file = picture_folder / "red_square.png"
    assert main(arguments([file], tiny_model_folder, tmp_path)) == 0
    lora = read_lora_file(tmp_path / "loras" / "zorp.safetensors")
    assert (lora.base, lora.captions) == (model_id(tiny_model_folder), ("zorp", "a zorp"))
    assert (tmp_path / "run" / "samples" / "step-0000040.png").exists()
    assert json.loads((tmp_path / "run" / "finished.json").read_text())["steps"] == 40

    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["taught_loss"] for line in lines if "taught_loss" in line]
    assert losses[-1] < 0.8 * losses[0]

    engine = LocalEngine(tiny_model_folder, "cpu", files=PromptFiles(tmp_path))
    pictures = []
    for prompt in ("zorp", "zorp<lora:zorp:0.7>"):
        request = GenerationRequest.from_options({"prompt": prompt, "seed": 0}, engine.model.defaults)
        *_, result = engine.generate(request)
        pictures.append(np.asarray(result.images[0]))
    assert not np.array_equal(*pictures)
    with Image.open(tmp_path / "run" / "samples" / "step-0000040.png") as sheet:
        preview = np.asarray(sheet.crop((0, 0, 32, 32)), dtype=float)
    assert (tmp_path / "run" / "samples" / "prompts.txt").read_text().startswith("zorp\n")
    assert np.abs(preview - pictures[1]).max() <= 3  # the file holds half precision


def test_the_steps_are_as_many_as_fit_into_the_time(picture_folder, tiny_model_folder, tmp_path) -> None:
    write_taught([picture_folder / "red_square.png"], "zorp", tmp_path / "views", 32)
    words = [f"data.path={tmp_path / 'views'}", "data.resolution=32", f"init.model={tiny_model_folder}"]
    stage = TeachStage(load_config(DiffusionConfig, "teach-diffusion", words), "zorp", tmp_path)
    before = {name: tensor.clone() for name, tensor in stage.trained.state_dict().items()}
    # Begin, two warm steps, three timed ones of a second each, a preview of six seconds, the time until then.
    ticks = iter([0, 2, 5, 5, 11, 12])
    config = fitted(stage, connect(stage.config.training), 300, lambda: next(ticks))
    assert config.training.steps == 300 - 12 - 4 * 6
    assert config.training.sample_every_steps == (300 - 12 - 4 * 6) / 4
    assert all((tensor == before[name]).all() for name, tensor in stage.trained.state_dict().items())


def test_a_name_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path, tiny_model_folder) -> None:
    with pytest.raises(DataError, match="name"):
        main(arguments([tmp_path / "a.png"], tiny_model_folder, tmp_path, name="a:b"))
    with pytest.raises(ConfigError, match="minutes"):
        main(arguments([tmp_path / "a.png"], tiny_model_folder, tmp_path, minutes=float("nan")))
    assert not list(tmp_path.iterdir())
