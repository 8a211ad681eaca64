"""Pictures as other programs write them: their texts where those programs put them."""

import io
import json
import struct
import zlib
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

IMAGE = Image.new("RGB", (8, 8), (90, 120, 30))


def png(chunks: dict[str, str], *, packed: bool = False) -> bytes:
    info, file = PngInfo(), io.BytesIO()
    for name, text in chunks.items():
        info.add_text(name, text, zip=packed)
    IMAGE.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def with_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk before its pixels."""
    data = png({})
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


def with_exif(format: str, tags: dict[int, Any], sub_tags: dict[int, Any] | None = None) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    for tag, value in tags.items():
        exif[tag] = value
    for tag, value in (sub_tags or {}).items():
        exif.get_ifd(0x8769)[tag] = value
    IMAGE.save(file, format, exif=exif.tobytes())
    return file.getvalue()


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


# ComfyUI's first example, as its `prompt` text holds it.
COMFYUI = {
    "3": node(
        "KSampler",
        seed=156680208700286,
        steps=20,
        cfg=8.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="v1-5-pruned-emaonly.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text="beautiful scenery nature glass bottle", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="text, watermark", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
}

FLUX = {
    "6": node("CLIPTextEncode", text="a fox in the snow", clip=["11", 0]),
    "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
    "9": node("SaveImage", filename_prefix="flux", images=["8", 0]),
    "10": node("VAELoader", vae_name="ae.safetensors"),
    "11": node("DualCLIPLoader", clip_name1="t5xxl_fp16.safetensors", clip_name2="clip_l.safetensors"),
    "12": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
    "13": node(
        "SamplerCustomAdvanced",
        noise=["25", 0],
        guider=["22", 0],
        sampler=["16", 0],
        sigmas=["17", 0],
        latent_image=["27", 0],
    ),
    "16": node("KSamplerSelect", sampler_name="dpmpp_2m"),
    "17": node("BasicScheduler", scheduler="simple", steps=25, denoise=1.0, model=["12", 0]),
    "22": node("BasicGuider", model=["12", 0], conditioning=["26", 0]),
    "25": node("RandomNoise", noise_seed=99),
    "26": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
    "27": node("EmptySD3LatentImage", width=["34", 0], height=["35", 0], batch_size=1),
    "34": node("PrimitiveInt", value=1024),
    "35": node("PrimitiveInt", value=640),
}

# The same graph as COMFYUI, small, as the screen keeps it: `workflow`.
WORKFLOW = {
    "last_node_id": 9,
    "nodes": [
        {
            "id": 3,
            "type": "KSampler",
            "inputs": [
                {"name": "model", "type": "MODEL", "link": 1},
                {"name": "positive", "type": "CONDITIONING", "link": 4},
                {"name": "negative", "type": "CONDITIONING", "link": 6},
                {"name": "latent_image", "type": "LATENT", "link": 2},
            ],
            "widgets_values": [42, "randomize", 30, 6.5, "uni_pc", "karras", 1],
        },
        {"id": 4, "type": "CheckpointLoaderSimple", "widgets_values": ["dream.safetensors"]},
        {"id": 5, "type": "EmptyLatentImage", "widgets_values": [512, 512, 1]},
        {"id": 6, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["a house"]},
        {"id": 7, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["blurry"]},
    ],
    "links": [
        [1, 4, 0, 3, 0, "MODEL"],
        [2, 5, 0, 3, 3, "LATENT"],
        [4, 6, 0, 3, 1, "CONDITIONING"],
        [6, 7, 0, 3, 2, "CONDITIONING"],
    ],
    "version": 0.4,
}

INVOKEAI: dict[str, Any] = {
    "app_version": "4.2.0",
    "generation_mode": "txt2img",
    "positive_prompt": "landscape",
    "negative_prompt": "low quality",
    "width": 768,
    "height": 432,
    "seed": 356120443,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "cfg_rescale_multiplier": 0,
    "steps": 50,
    "scheduler": "dpmpp_2m_sde_k",
    "clip_skip": 0,
    "model": {"key": "1", "hash": "blake3:2", "name": "amixx", "base": "sd-1", "type": "main"},
    "controlnets": [],
    "loras": [],
    "vae": None,
}

FOOOCUS: dict[str, Any] = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernautXL_v8Rundiffusion",
    "base_model_hash": "aeb7e9e689",
    "full_negative_prompt": ["low quality", "drawing"],
    "full_prompt": ["cinematic still a house .", "a house, glowing"],
    "guidance_scale": 4.0,
    "lora_combined_1": "sd_xl_offset_example-lora_1.0 : 0.1",
    "loras": [["sd_xl_offset_example-lora_1.0", 0.1, "4852686128"]],
    "metadata_scheme": "fooocus",
    "negative_prompt": "drawing",
    "performance": "Speed",
    "prompt": "a house\nby the sea",
    "refiner_model": "None",
    "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "2541219580",
    "sharpness": 2.0,
    "steps": 30,
    "styles": "['Fooocus V2', 'Fooocus Cinematic']",
    "vae": "Default (model)",
    "version": "Fooocus v2.5.5",
}

FOOOCUS_TEXT = (
    "cinematic still a house, by the sea, glowing\nNegative prompt: low quality, drawing\n"
    "Steps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 2541219580, Size: 1152x896, CFG scale: 4, Sharpness: 2, "
    'ADM Guidance: "(1.5, 0.8, 0.3)", Model: juggernautXL_v8Rundiffusion, Model hash: aeb7e9e689, '
    'Performance: Speed, Scheduler: karras, VAE: Default (model), Raw prompt: "a house\\nby the sea", '
    "Raw negative prompt: drawing, Version: Fooocus v2.5.5"
)


def comfyui_png(graph: Any = COMFYUI, workflow: Any = None) -> bytes:
    texts = {"prompt": json.dumps(graph)} if graph is not None else {}
    return png(texts | ({"workflow": json.dumps(workflow)} if workflow is not None else {}))
