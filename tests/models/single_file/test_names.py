from hypothesis import given
from hypothesis import strategies as st

from models.single_file.names import (
    OPEN_CLIP_INSIDE,
    UNET_INSIDE,
    VAE_INSIDE,
    open_clip_modules,
    renamed,
    reversed_table,
    unet_modules,
    vae_modules,
)

TABLES = st.one_of(
    st.tuples(
        st.builds(unet_modules, st.lists(st.booleans(), min_size=1, max_size=5), st.integers(1, 3)),
        st.just(UNET_INSIDE),
    ),
    st.tuples(st.builds(vae_modules, st.integers(1, 5), st.integers(1, 3)), st.just(VAE_INSIDE)),
    st.tuples(st.builds(open_clip_modules, st.integers(1, 4)), st.just(OPEN_CLIP_INSIDE)),
)


@given(TABLES, st.data())
def test_every_name_goes_there_and_back(tables: tuple[dict[str, str], dict[str, str]], data) -> None:
    modules, inside = tables
    module = data.draw(st.sampled_from(sorted(modules)))
    is_block = module[-1].isdigit() and ("block" in module or "attn" in module)
    inner = data.draw(st.sampled_from(sorted(inside))) if is_block else ""
    name = ".".join(filter(None, (module, inner, "weight")))
    there = renamed(name, modules, inside)
    assert there != name or modules[module] == module
    assert renamed(there, reversed_table(modules), reversed_table(inside)) == name


@given(TABLES, st.text())
def test_other_names_stay(tables: tuple[dict[str, str], dict[str, str]], name: str) -> None:
    modules, inside = tables
    if not any(name == module or name.startswith(f"{module}.") for module in modules):
        assert renamed(name, modules, inside) == name


def test_the_first_names_of_stable_diffusion_are_diffusers_own() -> None:
    unet, vae = unet_modules([True, True, True, False], 2), vae_modules(4, 2)
    for theirs, ours in {  # diffusers' convert_ldm_unet_checkpoint on v1-5
        "input_blocks.4.0.in_layers.2.weight": "down_blocks.1.resnets.0.conv1.weight",
        "input_blocks.3.0.op.bias": "down_blocks.0.downsamplers.0.conv.bias",
        "output_blocks.2.1.conv.weight": "up_blocks.0.upsamplers.0.conv.weight",
        "output_blocks.5.2.conv.weight": "up_blocks.1.upsamplers.0.conv.weight",
        "output_blocks.11.0.skip_connection.weight": "up_blocks.3.resnets.2.conv_shortcut.weight",
        "middle_block.1.norm.weight": "mid_block.attentions.0.norm.weight",
    }.items():
        assert renamed(theirs, unet, UNET_INSIDE) == ours
    for theirs, ours in {
        "decoder.up.0.block.2.nin_shortcut.weight": "decoder.up_blocks.3.resnets.2.conv_shortcut.weight",
        "encoder.mid.attn_1.proj_out.bias": "encoder.mid_block.attentions.0.to_out.0.bias",
    }.items():
        assert renamed(theirs, vae, VAE_INSIDE) == ours
