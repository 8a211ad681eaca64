"""Pictures that are kept, and when they are drawn anew."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ImageChops

from evaluation.drawing import draw_all
from models.folder import load_model
from models.latent_diffusion import LatentDiffusionModel
from pipelines.local_engine import LocalEngine
from pipelines.pictures import open_picture
from pipelines.request import GenerationRequest


@pytest.mark.slow
def test_pictures_of_a_student_are_drawn_anew_where_it_alone_was_replaced(
    taught_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path))
    model = load_model(taught_model_folder)
    assert model.instant is not None
    other = load_model(taught_model_folder).instant
    assert other is not None
    for parameter in other.denoiser.unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    retrained = replace(model, instant=replace(other, model_id="another"))

    def files(model: LatentDiffusionModel, **options: Any) -> list[Path]:
        engine = LocalEngine(model, "cpu", runner="torch")
        asked = {"prompt": "a red apple", "seed": 1, **options}
        request = GenerationRequest.from_options(asked, model.defaults)
        return draw_all(engine, [request], "pictures")

    assert files(model) == files(retrained)  # the teacher is the same
    (before,), (after,) = files(model, instant=True), files(retrained, instant=True)
    assert ImageChops.difference(open_picture(before), open_picture(after)).getbbox()
    assert files(model, instant=True) == [before]
