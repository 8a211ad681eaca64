import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from models.clip_vision import ClipVision
from models.errors import ModelError

VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 8, "projection_dim": 12,
}  # fmt: skip
TEXT = {**VISION, "vocab_size": 30, "bos_token_id": 1, "eos_token_id": 2}


def save_clip(folder: Path, whole: bool = True, **preparation: Any) -> Any:
    """A tiny CLIP with its preparation of pictures, written by transformers itself."""
    torch.manual_seed(0)
    if whole:
        clip: Any = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12))
    else:
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION))
    clip.eval().save_pretrained(folder)
    settings = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}} | preparation
    CLIPImageProcessorPil(**settings).save_pretrained(folder)
    return clip


def picture(side: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("whole", [True, False])
def test_features_are_those_of_transformers_for_the_same_picture(tmp_path: Path, whole: bool) -> None:
    clip = save_clip(tmp_path, whole, image_mean=[0.3, 0.4, 0.5], image_std=[0.2, 0.3, 0.4])
    image = picture(64)
    prepared = CLIPImageProcessorPil.from_pretrained(tmp_path)(image, return_tensors="pt")
    with torch.no_grad():
        vision = clip.vision_model(**prepared).pooler_output
        expected = clip.visual_projection(vision)
        ours = ClipVision.from_folder(tmp_path).embed(
            torch.tensor(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
        )
    assert ours.shape == (1, 12)
    # Pillow rounds to 8 bits between its two passes; torch does not.
    assert torch.cosine_similarity(ours, expected) > 0.9999
    assert torch.allclose(ours, expected, atol=0.02 * float(expected.abs().max()))


def test_folders_of_earlier_transformers_are_read(tmp_path: Path) -> None:
    clip = save_clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"] |= {"num_beams": 1, "bad_words_ids": None, "_name_or_path": ""}
    (tmp_path / "config.json").write_text(json.dumps(config))
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"size": 32, "crop_size": 32}))
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    network = ClipVision.from_folder(tmp_path)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (network.mean, network.std))
    with torch.no_grad():
        expected = clip.visual_projection(clip.vision_model((pixels * 0.5 + 0.5 - mean) / std).pooler_output)
        assert torch.allclose(network.embed(pixels), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"resample": 0}, "resample = 0"),
        ({"size": {"height": 32, "width": 48}}, "size"),
        ({"size": 10**9}, "size = 1000000000"),
        ({"crop_size": 64}, "crop_size"),
        ({"size": 64, "crop_size": 48}, "its network reads 32"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std"),
        ({"do_normalize": False}, "do_normalize = False"),
    ],
)
def test_a_preparation_that_is_not_understood_is_named(tmp_path: Path, changed: Any, said: str) -> None:
    save_clip(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(ModelError, match=said):
        ClipVision.from_folder(tmp_path)


def test_a_folder_without_its_preparation_or_without_safetensors_is_refused(tmp_path: Path) -> None:
    save_clip(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="preprocessor_config"):
        ClipVision.from_folder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="can run code"):
        ClipVision.from_folder(tmp_path)
