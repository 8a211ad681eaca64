"""Random ControlNets for the toy Stable Diffusion of tests/stock.py, as diffusers saves them."""

from pathlib import Path

import torch
from diffusers import ControlNetModel
from torch import nn


def make_controlnet(path: Path, seed: int = 0, zero: bool = False, **changed: object) -> Path:
    """Write a net whose zero convolutions are random, or still zero; returns `path`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = {
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "cross_attention_dim": 16,
            "attention_head_dim": 2,
            "norm_num_groups": 8,
            "conditioning_embedding_out_channels": (8, 8, 8),
        }
        net = ControlNetModel(**(settings | changed))
        outputs = [
            net.controlnet_cond_embedding.conv_out,
            *net.controlnet_down_blocks,
            net.controlnet_mid_block,
        ]
        for layer in [] if zero else outputs:
            nn.init.normal_(layer.weight, std=0.3)
            nn.init.normal_(layer.bias, std=0.3)
    net.save_pretrained(path)
    return path
