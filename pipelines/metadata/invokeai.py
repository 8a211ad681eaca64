"""InvokeAI's `invokeai_metadata`: one flat JSON object."""

from collections.abc import Mapping

from pipelines.metadata.found import Found
from pipelines.metadata.texts import read_json

ABOUT = ("app_version", "model", "rand_device")  # says something, but not what a picture looks like


def read_invokeai(texts: Mapping[str, str]) -> Found | None:
    """The settings of an InvokeAI picture, None if it has no such text."""
    data = read_json(texts.get("invokeai_metadata", ""))
    if not isinstance(data, dict):
        return None
    found, rest = Found("InvokeAI"), dict(data)
    for theirs, ours in (
        ("positive_prompt", "prompt"),
        ("negative_prompt", "negative_prompt"),
        ("width", "width"),
        ("height", "height"),
        ("seed", "seed"),
        ("steps", "steps"),
        ("cfg_scale", "guidance_scale"),
    ):
        value = rest.pop(theirs, None)
        found.options[ours] = value
    scheduler = rest.pop("scheduler", None)
    if isinstance(scheduler, str):
        plain = scheduler.removesuffix("_k")
        found.take_sampler(plain, "Uniform" if plain == scheduler else "Karras")
    device = rest.pop("rand_device", None)
    if device in ("cpu", "cuda"):
        found.options["noise"] = "cpu" if device == "cpu" else "nv"  # CUDA's numbers are Philox's
    model = data.get("model")
    if isinstance(model, dict):
        name = model.get("name", model.get("model_name"))
        found.model_name = name if isinstance(name, str) else None
    if str(rest.get("generation_mode", "")).endswith("txt2img"):
        del rest["generation_mode"]
    for name, value in rest.items():
        if name not in ABOUT and value != 0:
            found.leave(name, value)
    return found
