"""LoRA files as other programs write them: the same pixels as diffusers' own load_lora_weights."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from models.errors import ModelError
from models.lora import adapted, read_lora_file
from models.lora_facts import MAX_WORD_CHARACTERS, MAX_WORDS, read_words
from models.lora_names import find_layer, layer_tables, read_name
from tests.diffusers_pipelines import draw, stable_diffusion, stable_diffusion_xl

UNET = (
    "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2",
    "time_emb_proj", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv",
)  # fmt: skip
CLIP = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
BUILD = {"1": stable_diffusion, "xl": stable_diffusion_xl}
WEIGHTS = (0.8, -0.6)


def parts_of(pipeline):
    names = ("unet", "text_encoder", "text_encoder_2")
    return {name: pipeline.components[name] for name in names if name in pipeline.components}


def layers_of(pipeline, parts):
    for part, network in parts_of(pipeline).items():
        targets = UNET if part == "unet" else CLIP
        for path, module in network.named_modules():
            if part in parts and path.endswith(targets) and hasattr(module, "weight"):
                yield part, path, module.weight


def matrices(weight, rank, generator):
    """A and B of a layer; a convolution's A has its kernel, its B is one of 1 x 1."""
    kernel = weight.shape[2:]
    down = torch.randn(rank, *weight.shape[1:], generator=generator) * 0.3
    up = torch.randn(weight.shape[0], rank, *(1 for _ in kernel), generator=generator) * 0.3
    return down, up


def ldm_names(pipeline):
    """The name by LDM of each layer of the UNet that has one."""
    names = layer_tables({"unet": pipeline.unet})["unet"]
    beginnings = ("input_blocks", "middle_block", "output_blocks")
    return {path: name for name, path in names.items() if name.startswith(beginnings)}


def write(
    pipeline, folder, form, seed=0, rank=2, alpha=1.5, parts=("unet", "text_encoder", "text_encoder_2")
):
    """A LoRA file of all layers in one of the forms, from the same numbers for the same seed."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    ldm = ldm_names(pipeline)
    for part, path, weight in layers_of(pipeline, parts):
        down, up = matrices(weight, rank, generator)
        if form == "peft":
            text = "" if part == "unet" else "text_model."
            name = f"{part}.{text}{path.removeprefix('text_model.')}"
            # Without an alpha it is the rank.
            tensors |= {f"{name}.lora_A.weight": down * alpha / rank, f"{name}.lora_B.weight": up}
            continue
        own = ldm[path] if form == "ldm" and part == "unet" else path.replace(".", "_")
        if part != "unet":
            own = f"text_model_{own.removeprefix('text_model_')}"
        prefix = PREFIXES[part]
        if part == "text_encoder" and "text_encoder_2" not in pipeline.components:
            prefix = "lora_te_"
        name = f"{prefix}{own}"
        tensors |= {
            f"{name}.lora_down.weight": down,
            f"{name}.lora_up.weight": up,
            f"{name}.alpha": torch.tensor(alpha),
        }
    file = folder / f"{form}-{seed}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return read_lora_file(file)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "form"), [("1", "peft"), ("1", "kohya"), ("xl", "peft"), ("xl", "ldm")])
def test_pixels_are_those_of_diffusers_for_one_lora_and_for_two_by_weight(family, form, tmp_path) -> None:
    pipeline = BUILD[family]()
    networks, plain = parts_of(pipeline), draw(pipeline)
    loras = [write(pipeline, tmp_path, form, seed) for seed in range(2)]
    assert all(lora.misfit(networks, "any") is None for lora in loras)
    theirs = copy.deepcopy(pipeline)
    for number, lora in enumerate(loras):
        theirs.load_lora_weights(lora.path, adapter_name=f"n{number}")
    for used in (1, 2):
        theirs.set_adapters([f"n{n}" for n in range(used)], list(WEIGHTS[:used]))
        wanted = draw(theirs)
        asked = [(lora, weight, weight) for lora, weight in zip(loras, WEIGHTS, strict=True)]
        with adapted(networks, asked[:used]):
            ours = draw(pipeline)
        assert np.abs(ours - plain).max() > 0.01
        assert np.abs(ours - wanted).max() < 1e-4
    theirs.set_adapters(["n0"], [{"unet": 0.9, "text_encoder": 0.25, "text_encoder_2": 0.25}])
    with adapted(networks, [(loras[0], 0.25, 0.9)]):
        assert np.abs(draw(pipeline) - draw(theirs)).max() < 1e-4
    assert np.array_equal(draw(pipeline), plain)


@pytest.mark.slow
@pytest.mark.parametrize("family", BUILD)
def test_every_form_of_the_same_numbers_is_the_same_lora(family, tmp_path: Path) -> None:
    pipeline = BUILD[family]()
    networks, weights = parts_of(pipeline), []
    for form in ("peft", "kohya", "ldm"):
        lora = write(pipeline, tmp_path, form)
        assert lora.misfit(networks, "") is None
        with adapted(networks, [(lora, 0.5, 0.7)]):
            weights.append([weight.clone() for *_, weight in layers_of(pipeline, PREFIXES)])
    for other in weights[1:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights[0], other, strict=True))


@pytest.mark.parametrize("family", BUILD)
def test_every_layer_is_found_by_every_writers_name_and_by_no_other_layers(family) -> None:
    pipeline = BUILD[family]()
    tables, ldm = layer_tables(parts_of(pipeline)), ldm_names(pipeline)
    for part, path, _ in layers_of(pipeline, PREFIXES):
        bare = path.removeprefix("text_model.")
        names = [
            f"{part}.{path}.lora_A.weight",
            f"{part}.{path}.lora_B.default.weight",
            f"{part}.base_model.model.{path}.lora_A.weight",
            f"{part}.{path}.lora.down.weight",
            f"{PREFIXES[part]}{path.replace('.', '_')}.lora_mid.weight",
            f"{PREFIXES[part]}{bare.replace('.', '_')}.alpha",
        ]
        if part != "unet":
            old = {f"self_attn.{one}_proj": f"self_attn.to_{one}_lora" for one in ("q", "k", "v", "out")}
            end = ".".join(bare.split(".")[-2:])
            before = bare.removesuffix(end)
            names.append(f"{part}.text_model.{before}{old.get(end, f'{end}.lora_linear_layer')}.down.weight")
        if part == "unet":
            names += [f"base_model.model.{path}.lora_A.weight", f"{path}.lora_B.weight"]
            names += [f"lycoris_{path.replace('.', '_')}.lora_up.weight"]
            names += [f"lora_unet_{ldm[path]}.lora_up.weight"] if path in ldm else []
            last = path.removesuffix(".0").rpartition(".")[2]
            if ".attn" in path:
                before = path.removesuffix(".0").rpartition(".")[0]
                names.append(f"unet.{before}.processor.{last}_lora.down.weight")
        for name in names:
            read = read_name(name)
            assert read is not None, name
            assert find_layer(tables, *read[:2]) == (part, path), name


def test_ldm_numbers_the_blocks_of_stable_diffusion_xl_as_its_files_do() -> None:
    unet = {"unet": stable_diffusion_xl().unet}
    for theirs, ours in {  # two levels of two layers: 0 conv_in, 1 and 2, 3 down, 4 and 5
        "input_blocks_1_0_in_layers_2": "down_blocks.0.resnets.0.conv1",
        "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks_4_1_transformer_blocks_0_attn1_to_q":
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        "middle_block_1_proj_in": "mid_block.attentions.0.proj_in",
        "middle_block_2_out_layers_3": "mid_block.resnets.1.conv2",
        "output_blocks_2_1_proj_out": "up_blocks.0.attentions.2.proj_out",
        "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks_3_0_skip_connection": "up_blocks.1.resnets.0.conv_shortcut",
        "label_emb_0_2": "add_embedding.linear_2",
        "time_embed_0": "time_embedding.linear_1",
        "out_2": "conv_out",
    }.items():  # fmt: skip
        assert find_layer(layer_tables(unet), "unet", theirs) == ("unet", ours)


@pytest.mark.parametrize("to_conv", [True, False])
def test_matrices_and_convolutions_of_1_x_1_are_the_same_thing(to_conv, tmp_path: Path) -> None:
    layer = torch.nn.Conv2d(6, 5, 1) if to_conv else torch.nn.Linear(6, 5)
    network = torch.nn.ModuleDict({"proj_in": layer})
    before, (down, up) = layer.weight.detach().clone(), (torch.randn(2, 6), torch.randn(5, 2))
    shaped = (lambda m: m) if to_conv else (lambda m: m[:, :, None, None])
    names = ("lora_unet_proj_in.lora_down.weight", "lora_unet_proj_in.lora_up.weight")
    save_file(dict(zip(names, (shaped(down), shaped(up)), strict=True)), tmp_path / "a.safetensors")
    lora = read_lora_file(tmp_path / "a.safetensors")
    assert lora.misfit({"unet": network}, "") is None
    with adapted({"unet": network}, [(lora, 0.0, 0.5)]):
        change = (layer.weight - before).flatten(1)
    assert torch.allclose(change, 0.5 * up @ down, atol=1e-6)


def test_a_core_between_the_matrices_makes_the_convolutions_one_after_the_other(tmp_path: Path) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 5, 3, padding=1, bias=False)
    down, mid, up = (
        torch.nn.Conv2d(6, 2, 1, bias=False),
        torch.nn.Conv2d(2, 3, 3, padding=1, bias=False),
        torch.nn.Conv2d(3, 5, 1, bias=False),
    )
    save_file(
        {f"lora_unet_conv1.lora_{name}.weight": one.weight.detach().clone()
         for name, one in (("down", down), ("mid", mid), ("up", up))}
        | {"lora_unet_conv1.alpha": torch.tensor(1.0)},
        tmp_path / "a.safetensors",
    )  # fmt: skip
    lora, network = read_lora_file(tmp_path / "a.safetensors"), {"unet": torch.nn.ModuleDict({"conv1": conv})}
    assert lora.misfit(network, "") is None
    x = torch.randn(1, 6, 8, 8)
    with torch.no_grad():
        wanted = conv(x) + 0.5 * up(mid(down(x)))  # alpha 1 of rank 2
        with adapted(network, [(lora, 1.0, 1.0)]):
            assert torch.allclose(conv(x), wanted, atol=1e-5)


def test_a_lora_of_another_family_is_told_in_a_sentence(tmp_path: Path) -> None:
    pipelines = {name: build() for name, build in BUILD.items()}
    for name, other in (("1", "xl"), ("xl", "1")):
        lora = write(pipelines[name], tmp_path, "kohya", parts=("unet",))
        assert lora.misfit(parts_of(pipelines[other]), "")
    layer, file = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", tmp_path / "wide.safetensors"
    matrices = {"down": torch.zeros(2, 2048), "up": torch.zeros(640, 2)}
    save_file({f"{layer}.lora_{kind}.weight": matrix for kind, matrix in matrices.items()}, file)
    said = read_lora_file(file).misfit(parts_of(pipelines["1"]), "") or ""
    assert "it was made for Stable Diffusion XL" in said
    for key in ("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", "transformer.x.lora_A.weight"):
        file = tmp_path / "flux.safetensors"
        save_file({key: torch.zeros(2, 2)}, file, {"modelspec.architecture": "flux-1-dev/lora"})
        said = read_lora_file(file).misfit(parts_of(pipelines["1"]), "") or ""
        assert "transformer" in said
        assert "FLUX" in said


NAMES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(("", "unet.", "lora_unet_", "lora_te_", "base_model.model.", "lycoris_", "x")),
        st.sampled_from(("proj_in", "conv1", "attn2_to_k", "..", "", "ä")),
        st.sampled_from((".lora_down.weight", ".lora_up.weight", ".lora_mid.weight", ".alpha", ".diff", "",
                         ".lora_A.weight", ".lora_B.default.weight", "_lora.up.weight", ".hada_w1_a")),
    ),
)  # fmt: skip


@settings(max_examples=100)
@given(st.dictionaries(NAMES, st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=5))
def test_no_names_and_shapes_do_more_than_be_refused(tmp_path_factory, shapes) -> None:
    file = tmp_path_factory.mktemp("loras") / "a.safetensors"
    save_file({name or "x": torch.zeros(shape) for name, shape in shapes.items()}, file)
    network = torch.nn.ModuleDict({"proj_in": torch.nn.Linear(3, 2), "conv1": torch.nn.Conv2d(3, 2, 3)})
    lora, before = read_lora_file(file), copy.deepcopy(network.state_dict())
    try:
        refused = lora.misfit({"unet": network}, "")
    except ModelError:
        return
    if refused is None:  # and then it can be put in
        with adapted({"unet": network}, [(lora, 1.0, 1.0)]):
            assert all(weight.shape == before[name].shape for name, weight in network.state_dict().items())


def test_settings_that_are_no_numbers_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    network, file = (
        {"unet": torch.nn.ModuleDict({"proj_in": torch.nn.Linear(3, 3)})},
        tmp_path / "a.safetensors",
    )
    names = ("unet.proj_in.lora_A.weight", "unet.proj_in.lora_B.weight")
    for alpha in ("4", None, [1], True, 10**400, float("nan")):
        settings = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": alpha})}
        save_file({name: torch.zeros(3, 3) for name in names}, file, settings)
        with pytest.raises(ModelError, match="is no number"):
            read_lora_file(file).misfit(network, "")


def test_what_kohyas_scripts_say_of_a_file_is_told_within_bounds(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    tags = {"10_dog": {"zorp": 40, "sitting ": 7}, "5_cat": {"zorp": 2, "x" * 500: 9, "bad": "9", "  ": 99}}
    save_file(
        {"lora_unet_a.lora_down.weight": torch.zeros(2, 2)},
        file,
        {
            "ss_tag_frequency": json.dumps(tags),
            "ss_network_dim": "32",
            "ss_base_model_version": "sdxl_base_v1-0",
        },
    )
    lora = read_lora_file(file)
    assert (lora.captions[0], lora.captions[2]) == ("zorp", "sitting")
    assert (lora.family, lora.rank) == ("Stable Diffusion XL", 32)
    assert read_words({"modelspec.trigger_phrase": "a zorp\n dog"}) == ("a zorp dog",)


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@settings(max_examples=30)
@given(st.text() | JSON.map(json.dumps))
def test_no_entry_of_a_header_breaks_what_is_told(said: str) -> None:
    words = read_words({"ss_tag_frequency": said})
    assert len(words) <= MAX_WORDS
    assert all(0 < len(word) <= MAX_WORD_CHARACTERS for word in words)
