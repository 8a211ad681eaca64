import pytest
import torch

from models.text_pair import TextEncoderPair
from pipelines.prompt.encode import PromptEncoder
from tests.models.single_file.tiny import tiny_model


@pytest.fixture(scope="module")
def pair() -> TextEncoderPair:
    encoder = tiny_model("sdxl").text_encoder
    assert isinstance(encoder, TextEncoderPair)
    return encoder


def test_the_second_is_filled_with_its_own_token(pair: TextEncoderPair) -> None:
    seen: list[torch.Tensor] = []
    hook = pair.second.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["input_ids"]), with_kwargs=True
    )
    pair.encode(["a cat"])
    hook.remove()
    assert seen[0].tolist() == [[49406, 320, 2368, 49407, *[0] * 73]]


def test_states_lie_side_by_side_and_the_empty_prompt_is_zero(pair: TextEncoderPair) -> None:
    states = pair.encode(["a cat", ""])
    assert states.hidden.shape == (2, 77, pair.dim) == (2, 77, 32 + 64)
    assert states.pooled.shape == (2, 48)
    assert states.mask.all()
    assert states.hidden[0].std() > 0.1
    assert not states.hidden[1].any()
    assert not states.pooled[1].any()


def test_weights_and_long_prompts_are_for_both(pair: TextEncoderPair) -> None:
    prompts = PromptEncoder(pair)
    plain, weighted = prompts.encode("a red cat"), prompts.encode("a (red:1.5) cat")
    assert plain.hidden.shape == weighted.hidden.shape
    for one in (slice(0, 32), slice(32, 96)):
        assert not torch.allclose(plain.hidden[..., one], weighted.hidden[..., one])
    assert prompts.encode("cat " * 100).hidden.shape == (1, 154, 96)
