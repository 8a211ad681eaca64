import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from training.attention import MAX_SCORES, CpuAttention


@pytest.mark.parametrize("tokens", [9, 300])
@pytest.mark.parametrize("words", [None, 5])
def test_plain_products_equal_the_fused_attention_in_values_and_gradients(tokens, words):
    assert 9 * 9 <= MAX_SCORES < 300 * 300
    width = None if words is None else 24
    attention = Attention(32, heads=2, dim_head=16, cross_attention_dim=width)
    x = torch.randn(2, tokens, 32)
    states = None if words is None else torch.randn(2, words, width)
    # The last two words are padding, as the UNet writes it.
    mask = None if words is None else torch.zeros(2, 1, words).index_fill(2, torch.tensor([3, 4]), -10000.0)
    outcomes = []
    for processor in (AttnProcessor2_0(), CpuAttention()):
        attention.set_processor(processor)
        attention.zero_grad()
        attended = attention(x, states, attention_mask=mask)
        attended.square().mean().backward()
        outcomes.append((attended, attention.to_q.weight.grad.clone(), attention.to_v.weight.grad.clone()))
    for fused, ours in zip(*outcomes, strict=True):
        assert torch.allclose(ours, fused, atol=1e-5)


def test_in_bfloat16_plain_products_are_as_close_to_the_truth():
    torch.manual_seed(0)
    attention = Attention(64, heads=2, dim_head=32)
    x = torch.randn(8, 64, 64)

    def gradient(processor, bfloat16):
        attention.set_processor(processor)
        attention.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            attention(x).float().square().mean().backward()
        return torch.cat([p.grad.flatten() for p in attention.parameters()])

    truth = gradient(AttnProcessor2_0(), False)
    fused, ours = (gradient(one, True) for one in (AttnProcessor2_0(), CpuAttention()))
    assert (ours - truth).norm() < 1.5 * (fused - truth).norm() < 0.05 * truth.norm()
