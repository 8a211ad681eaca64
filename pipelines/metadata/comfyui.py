"""ComfyUI's graphs: `prompt` (what was run: nodes by id) and `workflow` (what was on the screen).

From the sampler that draws, its inputs are followed back to the words, the size and the model.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.metadata.found import Found
from pipelines.metadata.texts import read_json

MAX_NODES = 5000
Graph = dict[str, dict[str, Any]]  # id: {"class_type": name, "inputs": {name: value or [id, output]}}

BESIDE = ("noise", "guider", "sampler", "sigmas")  # the nodes of SamplerCustomAdvanced that hold its settings
TEXT = ("text", "text_g", "clip_l", "t5xxl", "prompt", "string", "value")
CONDITIONING = ("conditioning", "conditioning_1", "conditioning_to", "positive", "text")
SCHEDULE_OF_NODE = {
    "KarrasScheduler": "karras",
    "ExponentialScheduler": "exponential",
    "BetaSamplingScheduler": "beta",
}
# What changes nothing that is not read from it, or nothing in the picture.
PLAIN = {
    "KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced", "RandomNoise", "CFGGuider",
    "BasicGuider", "KSamplerSelect", "BasicScheduler", *SCHEDULE_OF_NODE, "CLIPTextEncode",
    "CLIPTextEncodeSDXL",
    "EmptyLatentImage", "EmptySD3LatentImage", "CheckpointLoaderSimple", "CheckpointLoader", "UNETLoader",
    "CLIPLoader", "DualCLIPLoader", "VAELoader", "PrimitiveNode", "PrimitiveInt", "PrimitiveFloat",
    "PrimitiveString", "PrimitiveStringMultiline", "Reroute",
}  # fmt: skip
# The order in which a workflow keeps the values of a node's controls.
SEED = ("seed", "control_after_generate")
CONTROLS: Mapping[str, tuple[str, ...]] = {
    "KSampler": (*SEED, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        "add_noise", "noise_seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler",
        "start_at_step", "end_at_step", "return_with_leftover_noise",
    ),
    "RandomNoise": ("noise_seed", "control_after_generate"),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "CFGGuider": ("cfg",),
    "CLIPTextEncode": ("text",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "PrimitiveInt": ("value",),
    "PrimitiveString": ("value",),
    "PrimitiveNode": ("value",),
}  # fmt: skip


def read_comfyui(texts: Mapping[str, str]) -> Found | None:
    """The settings of the first sampling pass of a ComfyUI picture; None if there is no sampler in it."""
    graph = _graph(read_json(texts.get("prompt", "")))
    samplers = _samplers(graph)
    if not samplers:
        graph = _graph_of_workflow(read_json(texts.get("workflow", "")))
        samplers = _samplers(graph)
    if not samplers:
        return None
    # Later passes enlarge or refine: only the first one starts from an empty latent.
    first = [node for node in samplers if _size(graph, node["inputs"].get("latent_image"))]
    node = (first or samplers)[0]
    found = Found("ComfyUI")
    beside = [_node(graph, node["inputs"].get(name)) for name in BESIDE]
    inputs: dict[str, Any] = {}
    for part in (*beside, node):
        if part is not None:
            inputs |= part["inputs"]
            if part["class_type"] in SCHEDULE_OF_NODE:
                inputs["scheduler"] = SCHEDULE_OF_NODE[part["class_type"]]
    values = {name: _value(graph, value, name) for name, value in inputs.items()}
    found.options = {
        "prompt": _words(graph, inputs.get("positive", inputs.get("conditioning"))),
        "negative_prompt": _words(graph, inputs.get("negative"), slot_of_negative=True),
        "seed": values.get("noise_seed", values.get("seed")),
        "steps": values.get("steps"),
        "guidance_scale": values.get("cfg", 1.0),  # a guider without it draws with the condition alone
    }
    if size := _size(graph, inputs.get("latent_image")):
        found.options["width"], found.options["height"] = size
    if values.get("sampler_name"):
        found.take_sampler(values["sampler_name"], values.get("scheduler"))
    found.model_name = _model(graph, inputs.get("model"))
    if values.get("denoise") not in (None, 1, 1.0):
        found.leave("denoise", values["denoise"])
    behind = _behind(graph, node)
    found.leave("LoRA", [str(n["inputs"]["lora_name"]) for n in behind if n["inputs"].get("lora_name")])
    found.leave("Nodes", sorted({n["class_type"] for n in behind} - PLAIN - {"LoraLoader"}))
    found.leave("Further sampling passes", len(samplers) - 1 or None)
    return found


def _graph(data: object) -> Graph:
    if not isinstance(data, dict) or len(data) > MAX_NODES:
        return {}
    return {
        str(name): node
        for name, node in data.items()
        if isinstance(node, dict)
        and isinstance(node.get("inputs"), dict)
        and isinstance(node.get("class_type"), str)
    }


def _graph_of_workflow(data: object) -> Graph:
    """A workflow as the graph that it would run: links by their numbers, controls by their order."""
    if not isinstance(data, dict) or not isinstance(data.get("nodes"), list):
        return {}
    ends = {
        link[0]: [str(link[1]), link[2]]
        for link in _list(data.get("links"))
        if isinstance(link, list) and len(link) >= 3 and isinstance(link[0], int)
    }
    graph: Graph = {}
    for node in data["nodes"][:MAX_NODES]:
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            continue
        values = _list(node.get("widgets_values"))
        inputs: dict[str, Any] = dict(zip(CONTROLS.get(node["type"], ()), values, strict=False))
        for socket in _list(node.get("inputs")):
            if isinstance(socket, dict) and isinstance(socket.get("link"), int) and socket["link"] in ends:
                inputs[str(socket.get("name"))] = ends[socket["link"]]
        graph[str(node.get("id"))] = {"class_type": node["type"], "inputs": inputs}
    return graph


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _samplers(graph: Graph) -> list[dict[str, Any]]:
    return [
        node
        for node in graph.values()
        if "latent_image" in node["inputs"] and not {"seed", "noise_seed", "noise"}.isdisjoint(node["inputs"])
    ]


def _node(graph: Graph, link: object) -> dict[str, Any] | None:
    if isinstance(link, list) and len(link) == 2 and isinstance(link[0], str | int):
        return graph.get(str(link[0]))
    return None


def _chain(graph: Graph, link: object, names: Iterable[str]) -> Iterable[dict[str, Any]]:
    """The nodes back from a link, each by the first of the named inputs that is one; a ring ends too."""
    seen: set[int] = set()
    while (node := _node(graph, link)) is not None and id(node) not in seen:
        seen.add(id(node))
        yield node
        link = next((node["inputs"][n] for n in names if isinstance(node["inputs"].get(n), list)), None)


def _value(graph: Graph, value: object, name: str) -> object:
    """A control's value, also where another node gives it."""
    for node in _chain(graph, value, (name, "value", "int", "float", "seed", "string")):
        for key in (name, "value", "int", "float", "seed", "string"):
            found = node["inputs"].get(key)
            if found is not None and not isinstance(found, list | dict):
                return found
    return None if isinstance(value, list | dict) else value


def _words(graph: Graph, link: object, slot_of_negative: bool = False) -> str:
    """The text that a conditioning was made from; a ControlNet passes both of them on, side by side."""
    names = ("negative", *CONDITIONING) if slot_of_negative else CONDITIONING
    for node in _chain(graph, link, names):
        for name in TEXT:
            found = _value(graph, node["inputs"].get(name), "text")
            if isinstance(found, str):
                return found
    return ""


def _size(graph: Graph, link: object) -> tuple[object, object] | None:
    """The size of the empty latent that a sampler starts from, None if it starts from anything else."""
    for node in _chain(graph, link, ("samples", "latent", "latent_image")):
        if "seed" in node["inputs"] or "noise" in node["inputs"] or "noise_seed" in node["inputs"]:
            return None
        if node["class_type"].startswith("Empty") and "width" in node["inputs"]:
            width, height = (_value(graph, node["inputs"].get(name), name) for name in ("width", "height"))
            return width, height
    return None


def _model(graph: Graph, link: object) -> str | None:
    for node in _chain(graph, link, ("model",)):
        for name in ("ckpt_name", "unet_name"):
            found = _value(graph, node["inputs"].get(name), name)
            if isinstance(found, str):
                return found
    return None


def _behind(graph: Graph, start: dict[str, Any]) -> list[dict[str, Any]]:
    """Every node whose output reaches this one, itself among them."""
    seen, waiting = {id(start): start}, [start]
    while waiting:
        for value in waiting.pop()["inputs"].values():
            node = _node(graph, value)
            if node is not None and id(node) not in seen:
                seen[id(node)] = node
                waiting.append(node)
    return list(seen.values())
