from pathlib import Path

import pytest
import torch
from PIL import Image

from evaluation.embeddings import embed_files
from evaluation.networks import read_network, shipped_network
from models.errors import ModelError
from models.features import CHECKPOINT
from tests.models.test_clip_vision import save_clip


def test_the_shipped_network_is_meant_where_none_or_its_own_folder_is_named() -> None:
    assert read_network(None) is read_network(CHECKPOINT) is shipped_network()
    assert shipped_network().name == "efficientnet-lite0"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("clip-vit-tiny", "clip-vit-tiny"),
        ("somewhere", "clip-somewhere"),
        ("models--owner--clip-vit-tiny/snapshots/3d74acf9", "clip-vit-tiny"),
        ("efficientnet-lite0", "clip-efficientnet-lite0"),
    ],
)
def test_a_network_is_called_as_its_folder_and_never_as_the_shipped_one(
    tmp_path: Path, folder: str, name: str
) -> None:
    save_clip(tmp_path / folder, whole=False)
    network = read_network(tmp_path / folder)
    assert network.name == name
    assert not network.is_shipped


def test_what_is_no_feature_network_is_named(tmp_path: Path, tiny_model_folder: Path) -> None:
    with pytest.raises(ModelError, match="not there"):
        read_network(tmp_path / "nothing")
    with pytest.raises(ModelError, match="CLIP"):
        read_network(tiny_model_folder / "text_encoder")
    pickle = tmp_path / "inception.pth"
    torch.save({"fc.bias": torch.zeros(3)}, pickle)
    with pytest.raises(ModelError, match="safetensors"):
        read_network(pickle)


def test_features_of_one_network_are_never_those_kept_of_another(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip", whole=False)
    save_clip(tmp_path / "other/clip", whole=False, image_mean=[0.1, 0.1, 0.1])
    file = tmp_path / "red.png"
    Image.new("RGB", (32, 32), "red").save(file)
    networks = [shipped_network(), *(read_network(tmp_path / name) for name in ("clip", "other/clip"))]
    for _ in range(2):  # the second time from what was kept
        shipped, clip, other = (embed_files([file], 32, network) for network in networks)
        assert (shipped.shape, clip.shape) == ((1, 1280), (1, 12))
        assert not torch.allclose(clip, other)
    assert len(list((tmp_path / "runs/cache").iterdir())) == 3
