import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.errors import ModelError
from models.inception import FidInception, resize


def random_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that keep the size of what flows through, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in sorted(shapes.items()):
        noise = torch.randn(shape, generator=generator)
        if name.endswith("conv.weight"):
            weights[name] = noise * (2 / noise[0].numel()) ** 0.5
        else:
            weights[name] = 0.1 * noise + (1 if name.endswith(("bn.weight", "running_var")) else 0)
    return weights


def picture() -> Tensor:
    """Two pictures of 8-bit noise, (2, 3, 40, 56)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 40, 56), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    shapes = {name: tuple(value.shape) for name, value in FidInception().state_dict().items()}
    return random_weights(shapes)


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    save_file({**weights, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    return path


def test_its_weights_are_named_and_shaped_as_in_torch_fidelity() -> None:
    shapes = {name: tuple(value.shape) for name, value in FidInception().state_dict().items()}
    listed = "\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
    # Of torch_fidelity 0.4.0's FeatureExtractorInceptionV3, without fc and the counters of its batch norms.
    assert len(shapes) == 470
    digest = "e22ffc91a09f7caa1af2ce051c7ddf26018012910da85827a0b035b343f00177"
    assert hashlib.sha256(listed.encode()).hexdigest() == digest


@pytest.mark.slow
def test_its_features_are_those_of_torch_fidelity(file: Path) -> None:
    with torch.inference_mode():
        features = FidInception.from_file(file).embed(picture() / 127.5 - 1)
    assert features.shape == (2, 2048)
    # Feature "2048" of torch_fidelity 0.4.0's FeatureExtractorInceptionV3 with these weights and pictures.
    assert float(features.mean()) == pytest.approx(0.4217925, abs=1e-5)
    assert float(features.std()) == pytest.approx(0.5539928, abs=1e-5)
    assert features.flatten()[::293].tolist() == pytest.approx(
        [
            1.9021709, 0.5228302, 1.1858675, 0.0133637, 2.3682559, 1.3152738, 0.9727812,
            0.2153435, 0.9869884, 0.3910321, 0.2233075, 0.0882085, 1.0748878, 0.0675623,
        ],
        abs=1e-4,
    )  # fmt: skip


def test_pictures_are_resized_on_the_grid_of_tensorflow_1() -> None:
    row = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    expected = (torch.arange(299) * 2 / 299).clamp(max=1)  # beyond the last pixel nothing changes
    assert torch.allclose(resize(row)[0, 0, 0], expected, atol=1e-6)


@pytest.mark.slow
def test_a_network_from_a_file_is_frozen(file: Path) -> None:
    network = FidInception.from_file(file)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    pickle = tmp_path / "pt_inception-2015-12-05.pth"
    torch.save({"fc.bias": torch.zeros(1008)}, pickle)
    with pytest.raises(ModelError, match=r"docs/training\.md"):
        FidInception.from_file(pickle)
    other = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(3)}, other)
    with pytest.raises(ModelError, match="lacks 470 tensors"):
        FidInception.from_file(other)
