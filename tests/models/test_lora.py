import copy
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models.errors import ModelError
from models.lora import adapted, loras_folder, read_lora_file
from models.unet import build_unet
from models.weights import LORA_FILE
from tests.training.test_lora import ATTENTION, output, random_unet, trained
from training.lora import save_lora

EVERY_KIND = (*ATTENTION, "ff.net.2", "conv1", "time_emb_proj")  # linear layers, convolutions of 3 x 3


def write_lora(unet, folder, rank=2, alpha=3.0, targets=EVERY_KIND, seed=0, **about):
    """A trained LoRA of a copy of `unet`, in `folder`."""
    torch.manual_seed(seed)
    lora = trained(copy.deepcopy(unet), rank, alpha, targets)
    save_lora(folder, {"unet": (lora, lora.adapter)}, about)
    return read_lora_file(folder / LORA_FILE)


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(st.integers(1, 4), st.sampled_from([1.0, 3.0]), st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_two_loras_by_weight_are_what_diffusers_makes_of_them(
    tmp_path_factory, rank, alpha, first, second
) -> None:
    unet, folder = random_unet(), tmp_path_factory.mktemp("loras")
    loras = [write_lora(unet, folder / str(n), rank + n, alpha, seed=n) for n in range(2)]
    theirs = copy.deepcopy(unet)
    for number in range(2):
        theirs.load_lora_adapter(
            folder / str(number), prefix="unet", weight_name=LORA_FILE, adapter_name=f"n{number}"
        )
    theirs.set_adapters(["n0", "n1"], [first, second])
    plain = output(unet)
    with adapted({"unet": unet}, [(loras[0], first, first), (loras[1], second, second)]):
        ours = output(unet)
    assert (ours - output(theirs)).abs().max() < 1e-5
    assert torch.equal(output(unet), plain)


def test_older_names_and_alphas_of_diffusers_mean_the_same(tmp_path: Path) -> None:
    unet = random_unet()
    new = write_lora(unet, tmp_path / "new", rank=2, alpha=3.0, targets=["to_q"])
    older = {}
    for name, tensor in load_file(new.path).items():
        old = name.replace("lora_A", "lora.down").replace("lora_B", "lora.up")
        older |= {old: tensor, old.split(".lora.")[0] + ".alpha": torch.tensor(3.0)}
    save_file(older, tmp_path / "old.safetensors")
    with adapted({"unet": unet}, [(new, 0.7, 0.7)]):
        wanted = output(unet)
    with adapted({"unet": unet}, [(read_lora_file(tmp_path / "old.safetensors"), 0.7, 0.7)]):
        assert torch.equal(output(unet), wanted)


def test_a_model_has_its_own_parameters_back_also_after_a_file_that_is_damaged(tmp_path: Path) -> None:
    unet = random_unet()
    own = dict(unet.named_parameters())
    lora = write_lora(unet, tmp_path)
    with adapted({"unet": unet}, [(lora, 1.0, 1.0)]):
        assert any(parameter is not own[name] for name, parameter in unet.named_parameters())
    assert all(parameter is own[name] for name, parameter in unet.named_parameters())
    lora.path.write_bytes(lora.path.read_bytes()[:-1])
    with pytest.raises(ModelError), adapted({"unet": unet}, [(lora, 1.0, 1.0)]):
        pass
    assert all(parameter is own[name] for name, parameter in unet.named_parameters())


def test_a_file_says_what_it_belongs_to_and_what_to_ask_it_for(tmp_path: Path) -> None:
    lora = write_lora(random_unet(), tmp_path, base_model_id="abc", trigger_captions='["a dog"]')
    assert (lora.base, lora.captions, lora.name) == ("abc", ("a dog",), "pytorch_lora_weights")


def test_what_does_not_fit_is_told_with_what_differs(tmp_path: Path) -> None:
    unet = random_unet()
    lora = write_lora(unet, tmp_path / "a", base_model_id="abc")
    assert lora.misfit({"unet": unet}, "abc") is None
    assert "belongs to the model abc" in (lora.misfit({"unet": unet}, "def") or "")
    free = write_lora(unet, tmp_path / "b")
    assert free.misfit({"unet": unet}, "def") is None
    assert "another shape" in (free.misfit({"unet": build_unet("tiny", 4, 48)}, "def") or "")
    assert "has not" in (free.misfit({"unet": torch.nn.Sequential()}, "def") or "")
    assert "has not" in (free.misfit({}, "def") or "")


def test_files_in_other_formats_are_refused(tmp_path: Path) -> None:
    unet, file = random_unet(), tmp_path / "x.safetensors"
    for names, words in (
        (["model.diffusion_model.out.2.weight"], "is no LoRA: 'model"),
        (["lora_unet_mid.hada_w1_a"], "of the kind LoHa"),
        (["lora_unet_mid.lokr_w2"], "of the kind LoKr"),
        (["lora_unet_mid.lora_down.weight", "lora_unet_mid.dora_scale"], "of the kind DoRA"),
        (["lora_unet_mid.on_input", "lora_unet_mid.weight"], "of the kind IA3"),
        (["emb_params"], "of the kind textual inversion"),
        (["unet.conv1.lora_A.weight"], "lacks a matrix of unet.conv1"),
    ):
        save_file({name: torch.zeros(2, 2) for name in names}, file)
        with pytest.raises(ModelError, match=words):
            read_lora_file(file).misfit({"unet": unet}, "")
    for damaged in ("{", json.dumps([1])):
        save_file({"a": torch.zeros(1)}, file, {"lora_adapter_metadata": damaged})
        with pytest.raises(ModelError, match="damaged"):
            read_lora_file(file)


def test_loras_lie_beside_the_pictures_or_where_the_environment_says(monkeypatch) -> None:
    monkeypatch.delenv("LATENT_STUDIO_LORAS", raising=False)
    assert loras_folder(Path("outputs")) == Path("outputs/loras")
    monkeypatch.setenv("LATENT_STUDIO_LORAS", "/elsewhere")
    assert loras_folder(Path("outputs")) == Path("/elsewhere")
