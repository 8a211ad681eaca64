"""What AUTOMATIC1111's API lists: samplers, models, styles; empty lists for what there is nothing of here."""

from collections.abc import Callable
from typing import Any

from app.context import Context
from models.errors import StudioError
from models.machine import free_memory_bytes
from pipelines.request_parts import MAX_SCALE, UPSCALERS
from pipelines.samplers import SCHEDULES, sampler_names


def lists(context: Context) -> dict[str, tuple[str, Callable[[], Any]]]:
    """By the name of its route, what each list is and how it is made."""
    files = context.settings.prompt_files

    def models() -> list[dict[str, Any]]:
        return [
            {
                "title": card.name,
                "model_name": card.name,
                "hash": None,
                "sha256": None,
                "filename": card.name,  # where it lies is for who sits at this machine
                "config": None,
            }
            for card in context.models
        ]

    def samplers() -> list[dict[str, Any]]:
        distilled = any(card.distilled for card in context.models)
        return [{"name": name, "aliases": [], "options": {}} for name in sampler_names(distilled)]

    def schedulers() -> list[dict[str, Any]]:
        return [
            {
                "name": name.casefold(),
                "label": name,
                "aliases": None,
                "default_rho": -1.0,
                "need_inner_model": False,
            }
            for name in SCHEDULES
        ]

    def styles() -> list[dict[str, Any]]:
        return [
            {"name": name, "prompt": style.prompt, "negative_prompt": style.negative_prompt}
            for name, style in files.styles().items()
        ]

    def loras() -> list[dict[str, Any]]:
        return [{"name": name, "alias": name, "path": name, "metadata": {}} for name in files.loras.names()]

    def embeddings() -> dict[str, Any]:
        facts = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None}
        loaded, skipped = dict[str, Any](), dict[str, Any]()
        for name in files.embeddings.names():
            try:
                file = files.embeddings.find(name)
            except StudioError:  # damaged, or gone since it was listed
                skipped[name] = facts | {"shape": 0, "vectors": 0}
            else:
                loaded[name] = facts | {"shape": max(file.widths.values()), "vectors": file.vectors}
        return {"loaded": loaded, "skipped": skipped}

    def upscalers() -> list[dict[str, Any]]:
        pixels = (name for name in UPSCALERS if name != "Latent")
        facts = {"model_name": None, "model_path": None, "model_url": None, "scale": MAX_SCALE}
        return [{"name": name, **facts} for name in ("None", *pixels)]

    return {
        "samplers": ("The samplers.", samplers),
        "schedulers": ("The schedules of noise levels.", schedulers),
        "sd-models": ("The models to draw with.", models),
        "prompt-styles": ("The styles of styles.csv.", styles),
        "loras": ("The LoRAs that a prompt can name.", loras),
        "upscalers": ("How a picture is enlarged.", upscalers),
        "latent-upscale-modes": ("How latents are enlarged.", lambda: [{"name": "Latent"}]),
        "memory": ("Free memory in bytes.", lambda: {"ram": {"free": free_memory_bytes()}, "cuda": {}}),
        "scripts": ("None here.", lambda: {"txt2img": [], "img2img": []}),
        "script-info": ("None here.", list),
        "embeddings": ("The learned words that a prompt can name.", embeddings),
        "sd-vae": ("None here beside the models' own.", list),
        "hypernetworks": ("None here.", list),
        "face-restorers": ("None here.", list),
        "realesrgan-models": ("None here.", list),
        "cmd-flags": ("What the server was started with that a program may know.", lambda: {"api": True}),
    }
