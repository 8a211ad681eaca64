"""`benchmark training`: images a second of stage 2's own steps, against a plain loop over the same model.

One thread, processor time, the three taking turns, medians: what else the machine does at the time slows all
of them alike. The plain loop has a process of its own, since ours changes how memory is kept in its own.
"""

import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from argparse import Namespace
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image, ImageDraw
from torch import Tensor, nn
from tqdm import tqdm

from evaluation.timing import seconds
from models.folder import load_autoencoder
from models.text_encoder import TextEncoder, TextStates
from models.unet import build_unet
from pipelines.pictures import open_picture
from training.config import DiffusionConfig, load_config
from training.data.images import to_tensor
from training.diffusion import DiffusionStage
from training.loop import Trainer

STARTER = Path(__file__).resolve().parents[1] / "checkpoints" / "starter"
ROUNDS = 7
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black")
SHAPES = ("circle", "square", "bar", "ring")
# Captions of 6 to 17 tokens, as the starter dataset has them.
CAPTIONS = ("a {} {}, flat style", "a {} {} with a thick black outline on a white background, cartoon style")


class PlainLoop:
    """What one writes first: float32, AdamW as it comes, averages one parameter at a time."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config, model = config, config.model
        self.autoencoder = load_autoencoder(Path(model.autoencoder))
        self.text_encoder = TextEncoder.from_folder(model.text_encoder)
        torch.manual_seed(config.training.seed)
        self.unet = build_unet(model.preset, self.autoencoder.latent_channels, self.text_encoder.dim)
        self.files = sorted(Path(config.data.path).glob("*.png"))
        self.captions = [file.with_suffix(".txt").read_text() for file in self.files]
        self.kept = self.encode(list(range(len(self.files))))
        rates = config.optimizer
        self.optimizer = torch.optim.AdamW(
            self.unet.parameters(), rates.learning_rate, rates.betas, weight_decay=rates.weight_decay
        )
        self.averages = [parameter.detach().clone() for parameter in self.unet.parameters()]

    @torch.no_grad()
    def encode(self, rows: list[int]) -> tuple[Tensor, TextStates]:
        """Latents (B, C, h, w) and text states of pictures by number."""
        size = self.config.data.resolution, self.config.data.resolution
        pixels = torch.stack([to_tensor(open_picture(self.files[row]), size) for row in rows])  # (B, 3, H, W)
        return self.autoencoder.encode(pixels), self.text_encoder.encode([self.captions[row] for row in rows])

    def live(self, rows: list[int]) -> None:
        """One step that reads and encodes its pictures and captions."""
        self.step(*self.encode(rows))

    def cached(self, rows: list[int]) -> None:
        """One step on latents and text states that were computed before."""
        latents, states = self.kept
        self.step(latents[rows], states.select(rows))

    def step(self, latents: Tensor, states: TextStates) -> None:
        """One step of the rectified flow on latents (B, C, h, w)."""
        timestep = 1000 * torch.randn(len(latents)).sigmoid()  # (B,)
        loss = self.loss(latents, torch.randn_like(latents), timestep, states)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.unet.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        decay = self.config.ema.max_decay
        with torch.no_grad():
            for average, parameter in zip(self.averages, self.unet.parameters(), strict=True):
                average.mul_(decay).add_(parameter, alpha=1 - decay)

    def loss(self, latents: Tensor, noise: Tensor, timestep: Tensor, states: TextStates) -> Tensor:
        """The mean loss over latents and noise (B, C, h, w) at timesteps (B,)."""
        share = timestep.view(-1, 1, 1, 1) / 1000
        velocity = self.unet(
            (1 - share) * latents + share * noise,  # (B, C, h, w)
            timestep,
            encoder_hidden_states=states.hidden,  # (B, T, D)
            encoder_attention_mask=states.mask,  # (B, T)
            class_labels=states.pooled,  # (B, D)
            return_dict=False,
        )[0]
        mean: Tensor = (velocity - (noise - latents)).square().mean()
        return mean


def serve(connection: Connection, config: DiffusionConfig) -> None:
    """Answer each (kind, rows) that comes with the seconds that a plain step of this kind takes."""
    torch.set_num_threads(1)
    loop = PlainLoop(config)
    while True:
        kind, rows = connection.recv()
        connection.send(seconds(getattr(loop, kind), rows))


def draw_pictures(folder: Path, side: int) -> None:
    """64 captioned pictures, `side` pixels square."""
    for number, (colour, shape, caption) in enumerate(product(COLOURS, SHAPES, CAPTIONS)):
        image = Image.new("RGB", (side, side), "white")
        pen, box = ImageDraw.Draw(image), [side // 5, side // 5, side - side // 5, side - side // 5]
        outline, width = "black" if "outline" in caption else colour, side // 20
        if shape == "circle":
            pen.ellipse(box, colour, outline, width)
        elif shape == "ring":
            pen.ellipse(box, None, colour, 2 * width)
        else:
            pen.rectangle([box[0], side // 3, box[2], side // 2] if shape == "bar" else box, colour, outline)
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption.format(colour, shape))


def measure(config: DiffusionConfig, rounds: int) -> dict[str, Any]:
    """Median speeds over `rounds` steps of each kind, after one that is not counted."""
    stage = DiffusionStage(config)
    trainer = Trainer(stage, config, Accelerator(mixed_precision=config.training.precision, cpu=True))
    size, count = config.training.batch_size, len(stage.pictures)
    taken: dict[str, list[float]] = {"ours": [], "live": [], "cached": []}
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, config), daemon=True)
    child.start()
    theirs.close()  # so that the end of the other process ends the waiting for it
    for step in tqdm(range(rounds + 1), desc="steps", leave=False, disable=not sys.stderr.isatty()):
        taken["ours"].append(seconds(trainer.step, step))
        for kind in ("live", "cached"):
            ours.send((kind, [row % count for row in range(step * size, step * size + size)]))
            taken[kind].append(ours.recv())
    child.terminate()
    child.join()
    median = {kind: statistics.median(times[1:]) for kind, times in taken.items()}
    return {
        "images_per_second": round(size / median["ours"], 2),
        "speedup_plain": round(median["live"] / median["ours"], 3),
        "speedup_cached": round(median["cached"] / median["ours"], 3),
        "plain_images_per_second": round(size / median["live"], 2),
        "cached_images_per_second": round(size / median["cached"], 2),
        "batch_size": size,
        "rounds": rounds,
        "avx512_bf16": bool(torch.cpu.get_capabilities().get("avx512_bf16")),
    }


def main(args: Namespace) -> int:
    """Run the command; `args` has json."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LATENT_STUDIO_RUNS"] = folder  # what is cached goes when the pictures go
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        words = [f"data.path={pictures}", f"model.autoencoder={STARTER}", f"model.text_encoder={STARTER}"]
        words.append("training.batch_size=64")  # with which the starter was trained
        config = load_config(DiffusionConfig, "starter-diffusion", words)
        draw_pictures(pictures, config.data.resolution)
        result = measure(config, ROUNDS)
    if args.json:
        print(json.dumps(result))
    else:
        plain, cached = result["plain_images_per_second"], result["cached_images_per_second"]
        print("images a second of one thread:")
        print(f"  this trainer                        {result['images_per_second']:6.2f}")
        print(f"  a plain loop, encoding as it goes   {plain:6.2f}  ({result['speedup_plain']} times slower)")
        print(
            f"  a plain loop with all that cached   {cached:6.2f}  ({result['speedup_cached']} times slower)"
        )
        if not result["avx512_bf16"]:
            print("This processor has no avx512_bf16: bfloat16 gains little here, or costs.")
    return 0
