"""Teach it a thing: pictures and a name in, a LoRA out. Its handlers start and watch; they never train."""

from pathlib import Path

import gradio as gr

from app import text, training_view
from app.context import Context
from app.tabs.events import POLITE, QUICK, Update, refusal
from app.tabs.generate import GenerateTab
from app.trainings import LIVE, State, Training, find, new_run, start, stop
from app.visitors import sits_here
from models.errors import StudioError
from models.lora import read_lora_file
from models.weights import LORA_FILE
from models.writing import write_bytes
from pipelines.inputs import read_picture
from pipelines.prompt.lora import TAUGHT_WEIGHT, put_lora
from training.data.taught import MAX_PICTURES, checked_name

REFRESH_SECONDS = 3.0
MINUTES = (1, 30, 5)  # fewest, most, and as it begins
GIVEN = "given"  # of a run's folder: a person's pictures, as they are read


class TeachForm:
    """Builds the section into the Blocks that are open, and holds its handlers."""

    def __init__(self, context: Context, generate: GenerateTab, tabs: gr.Tabs) -> None:
        self.context, self.generate = context, generate
        self.loras = context.settings.prompt_files.loras
        with gr.Accordion(text.TEACH, open=False, elem_id="teach"):
            gr.HTML(f'<p class="ls-quiet">{text.TEACH_HINT}</p>', apply_default_css=False)
            self.pictures = gr.File(
                label=text.TEACH_PICTURES, file_count="multiple", file_types=["image"], height=140,
                elem_id="teach-pictures",
            )  # fmt: skip
            with gr.Row():
                self.name = gr.Textbox(
                    label=text.TEACH_NAME, placeholder=text.TEACH_NAME_HINT, max_lines=1, min_width=140,
                    elem_id="teach-name",
                )  # fmt: skip
                fewest, most, usual = MINUTES
                self.minutes = gr.Slider(
                    fewest, most, value=usual, step=1, label=text.TEACH_MINUTES, min_width=140, buttons=[],
                    elem_id="teach-minutes",
                )  # fmt: skip
            with gr.Row():
                self.begin = gr.Button(text.TEACH_START, variant="primary", size="sm", elem_id="teach-start")
                self.stop = gr.Button(text.TEACH_STOP, size="sm", visible=False, elem_id="teach-stop")
                self.use = gr.Button(text.TEACH_USE, size="sm", visible=False, elem_id="teach-use")
            self.card = gr.HTML("", apply_default_css=False, js_on_load=POLITE, elem_id="teach-card")
            self.preview = gr.HTML("", apply_default_css=False, elem_id="teach-preview")
        self.run = gr.State("")
        self.timer = gr.Timer(REFRESH_SECONDS, active=False)
        form, shown = generate.form, [self.timer, self.card, self.preview, self.stop, self.use]
        asked = [self.pictures, self.name, self.minutes, form.model]
        self.begin.click(self.start, asked, [self.run], **QUICK).success(
            self.show, [self.run], shown, **QUICK
        )
        self.timer.tick(self.show, [self.run], shown, **QUICK)
        self.stop.click(self.ask_to_stop, [self.run], None, **QUICK).success(
            self.show, [self.run], shown, **QUICK
        )
        picker = generate.loras
        self.use.click(self.put, [self.run, form.prompt], [form.prompt], **QUICK).success(
            picker.refresh, [form.model], [picker.row, picker.name], **QUICK
        ).success(lambda: gr.Tabs(selected="generate"), None, [tabs], **QUICK)

    def start(
        self,
        files: list[str] | None,
        name: str | None,
        minutes: float,
        model: str | None,
        request: gr.Request,
    ) -> str:
        """Start teaching in a process of its own; the name of its run folder."""
        _only_here(request)
        card = self.context.model(model)
        if card is None or not card.words:
            raise refusal(text.TEACH_NO_MODEL)
        if card.elsewhere:
            raise refusal(text.MODEL_ELSEWHERE.format(server=card.elsewhere))
        if not files or len(files) > MAX_PICTURES:
            raise refusal(text.TEACH_NO_PICTURES)
        try:
            thing = checked_name(name or "")
            given = [read_picture(Path(file)) for file in files]
            ascii_name = "".join(c if c.isascii() and c.isalnum() else "-" for c in thing)
            run = new_run(f"teach-{ascii_name}"[:60])
            places = [run.absolute() / GIVEN / f"{number:02d}.png" for number in range(1, 1 + len(given))]
            for place, data in zip(places, given, strict=True):
                write_bytes(place, data)
            arguments = ["teach", thing, *map(str, places), "--model", str(card.path.absolute())]
            where = ["--loras", str(self.loras.folder)] if self.loras.folder is not None else []
            start([*arguments, "--minutes", f"{minutes:g}", *where], run)
        except StudioError as error:
            raise refusal(error) from None
        return run.name

    def show(self, name: str, request: gr.Request) -> Update:
        """How far it is, its newest preview, and the buttons that make sense now."""
        _only_here(request)
        training = find(name)
        if training is None:
            return gr.Timer(active=False), "", "", gr.update(visible=False), gr.update(visible=False)
        live = training.state in LIVE
        return (
            gr.Timer(active=live),
            training_view.card(training),
            _preview(training),
            gr.update(visible=live, interactive=training.state is not State.STOPPING),
            gr.update(visible=self._learned(training) is not None),
        )

    def ask_to_stop(self, name: str, request: gr.Request) -> None:
        """Have it end after the step at hand; what it has learned so far is kept."""
        _only_here(request)
        if (training := find(name)) is not None:
            stop(training, State.STOPPED)

    def put(self, name: str, prompt: str | None, request: gr.Request) -> str:
        """The prompt with the thing's tag in it, and its name where it is not there yet."""
        _only_here(request)
        training = find(name)
        learned = None if training is None else self._learned(training)
        if learned is None:
            raise refusal(text.TEACH_NOT_YET)
        words = prompt or ""
        if learned.lower() not in words.lower():
            words = f"{words}, {learned}".lstrip(", ")
        return put_lora(words, learned, TAUGHT_WEIGHT)

    def _learned(self, training: Training) -> str | None:
        """The name of the thing, once this teaching has written its LoRA."""
        file = training.folder / "model" / LORA_FILE
        return read_lora_file(file).captions[0] if file.is_file() else None


def _preview(training: Training) -> str:
    grids = sorted((training.folder / "samples").glob("step-*.png"))
    if not grids:
        return ""
    words = text.TEACH_PREVIEW.format(step=f"{int(grids[-1].stem.removeprefix('step-')):,}")
    return (
        f'<figure><img src="{training_view.small(grids[-1], grids[-1].stat().st_mtime_ns)}" alt="{words}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _only_here(request: gr.Request) -> None:
    if not sits_here(request):
        raise refusal(text.TRAIN_ELSEWHERE)
