"""The settings that few need, folded away, and what controls are made of."""

import gradio as gr

from app import text
from pipelines.request import MAX_SEED

MAX_COUNT_ON_PAGE = 16
RANDOM_SEED = -1  # as people write it; an empty number field would be sent as 0


def slider(
    label: str, low: float, high: float, value: float, *, name: str, step: float = 1, info: str | None = None
) -> gr.Slider:
    """A slider as narrow as two in a row need it."""
    return gr.Slider(
        low, high, value=value, step=step, label=label, info=info, min_width=140, buttons=[], elem_id=name
    )


def finer() -> dict[str, gr.components.Component]:
    """Variations, the interval in which guidance acts, batch and noise, by their names in a request."""
    fields: dict[str, gr.components.Component] = {}
    with gr.Row():
        fields["variation_seed"] = gr.Number(
            RANDOM_SEED, label=text.VARIATION_SEED, precision=0, minimum=-1, maximum=MAX_SEED, min_width=120,
            elem_id="variation-seed",
        )  # fmt: skip
        fields["variation_strength"] = slider(text.VARIATION, 0, 1, 0, step=0.01, name="variation")
    gr.HTML(f'<p class="ls-quiet">{text.GUIDANCE_INTERVAL_HINT}</p>', apply_default_css=False)
    with gr.Row():
        fields["guidance_start"] = slider(text.GUIDANCE_START, 0, 1, 0, step=0.01, name="guidance-start")
        fields["guidance_end"] = slider(text.GUIDANCE_END, 0, 1, 1, step=0.01, name="guidance-end")
    fields["batch_size"] = slider(text.BATCH_SIZE, 0, MAX_COUNT_ON_PAGE, 0, name="batch-size")
    noises = [(words, value) for value, words in text.NOISES.items()]
    fields["noise"] = gr.Radio(noises, value="cpu", label=text.NOISE, elem_id="noise")
    return fields
