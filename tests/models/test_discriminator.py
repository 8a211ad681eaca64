import pytest
import torch

from models.discriminator import PatchDiscriminator


def test_it_judges_patches_of_seventy_pixels():
    discriminator = PatchDiscriminator(16)
    pixels = torch.rand(1, 3, 128, 128, requires_grad=True)
    logits = discriminator(pixels)
    assert logits.shape == (1, 1, 14, 14)
    # Group norm lets the whole picture in, so the patch is looked at without it.
    for module in discriminator:
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = lambda x: x
    discriminator(pixels)[0, 0, 7, 7].backward()
    assert pixels.grad is not None
    rows = pixels.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == 70  # the "70 x 70 PatchGAN" of Isola et al. 2017


@pytest.mark.parametrize(("layers", "pixels"), [(2, 12), (3, 24)])
def test_its_smallest_picture_gives_one_logit(layers, pixels):
    discriminator = PatchDiscriminator(16, layers)
    assert discriminator.smallest_pixels == pixels
    assert discriminator(torch.rand(1, 3, pixels, pixels)).shape == (1, 1, 1, 1)


def test_a_picture_is_judged_alike_in_every_company():
    # In double precision: how float32 rounds hangs on the size of the batch.
    discriminator = PatchDiscriminator(16).double()
    pixels = torch.rand(4, 3, 32, 32, dtype=torch.double)
    assert torch.allclose(discriminator(pixels)[:1], discriminator(pixels[:1]), atol=1e-6)


def test_it_has_the_size_of_the_papers_but_for_the_norms():
    # NLayerDiscriminator of pix2pix and of taming-transformers with batch norm, 64 channels and 3 layers.
    assert sum(p.numel() for p in PatchDiscriminator().parameters()) == 2_765_633
