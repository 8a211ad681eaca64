"""The Models tab: what can draw here, which one does, and the list's changes."""

from pathlib import Path
from typing import Any

import gradio as gr

from app import text
from app.comparison import runs_that_draw
from app.context import Context
from app.hub import fetched, must_be_fetched
from app.model_view import found_models, model_cards
from app.tabs.events import CLICK_ON_ID, QUICK, Updates, refusal
from app.tabs.generate import GenerateTab
from app.visitors import sits_here
from models.errors import StudioError
from models.folder import model_path


class ModelsTab:
    """Builds the tab into the Blocks that are open, and holds its handlers.

    The list is the same for all visitors; who sits at this machine may change it.
    """

    def __init__(self, context: Context, generate: GenerateTab, tabs: gr.Tabs, tab: gr.Tab) -> None:
        self.context, self.form, self.tabs = context, generate.form, tabs
        with gr.Column(elem_id="models"):
            gr.HTML(f'<p class="ls-quiet">{text.MODELS_HINT}</p>', apply_default_css=False)
            self.list = gr.HTML("", apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="model-list")
            with gr.Row(visible=False, elem_id="add-model") as self.adding:
                self.path = gr.Textbox(
                    label=text.MODEL_FOLDER, info=text.MODEL_FOLDER_HINT, max_lines=1, scale=4,
                    min_width=260, elem_id="model-path",
                )  # fmt: skip
                self.add = gr.Button(
                    text.MODEL_ADD, size="md", scale=1, min_width=140, elem_id="add-model-button"
                )
        chosen, seen = [self.form.model], [self.list, self.adding]
        tab.select(self.look, chosen, seen, **QUICK)
        form = [*self.form.outputs, tabs]
        self.list.select(self.act, chosen, [self.list, *form], **QUICK)
        for asked in (self.add.click, self.path.submit):
            asked(self.add_folder, [self.path, *chosen], [self.path, self.list, *chosen], **QUICK)

    def look(self, model: str | None, request: gr.Request) -> Updates:
        """The list as it is now."""
        self.context.models.look()
        return {self.list: self._list(model, request), self.adding: gr.update(visible=sits_here(request))}

    def act(self, model: str | None, request: gr.Request, event: gr.EventData) -> Updates:
        """A button of the list: draw with a model, remove it, or offer one that was found."""
        action, _, named = str(event.id).partition(":")
        folder = Path(named)
        if action == "use":
            if folder not in [card.path for card in self.context.models]:
                raise refusal(text.MODEL_UNKNOWN)
            return {**self.form.choose_model(folder), self.tabs: gr.Tabs(selected="generate")}
        if not sits_here(request):
            raise refusal(text.MODEL_NOT_YOURS)
        try:
            if action == "remove":
                self.context.models.remove(folder)
            elif action == "offer" and folder in [found for found, _ in self._found()]:
                self.context.models.add(folder)
        except StudioError as error:
            raise refusal(error) from None
        return self._changed(model, request)

    def add_folder(self, path: str, model: str | None, request: gr.Request) -> Updates:
        """Add the model of a folder, which may be that of a training run; gr.Error says what is wrong."""
        if not sits_here(request):
            raise refusal(text.MODEL_NOT_YOURS)
        named = (path or "").strip().strip("\"'")
        if not named:
            raise refusal(text.MODEL_NO_FOLDER)
        try:
            folder = Path(named).expanduser()
            if must_be_fetched(folder):
                gr.Info(text.MODEL_FETCHING.format(name=named))
            self.context.models.add(model_path(fetched(folder)).resolve())
        except StudioError as error:
            raise refusal(error) from None
        except (OSError, ValueError, RuntimeError):  # ~nobody, a NUL, a name that no disk takes
            raise refusal(text.MODEL_NO_PATH.format(path=named[:200])) from None
        return {self.path: "", **self._changed(model, request)}

    def _changed(self, model: str | None, request: gr.Request) -> Updates:
        """The list, and the choice on the tab Generate, which keeps its model where that is still there."""
        offered: Any = self.form.offer_again(model)
        return {self.form.model: offered, self.list: self._list(offered["value"], request)}

    def _list(self, model: str | None, request: gr.Request) -> str:
        models, card = self.context.models, self.context.model(model)
        names, may_change = {card.path: card.name for card in models}, sits_here(request)
        cards = model_cards(models.listed, names, "" if card is None else str(card.path), may_change)
        return cards + (found_models(self._found()) if may_change else "")

    def _found(self) -> list[tuple[Path, bool]]:
        """The models in the runs folder that are not on the list, and whether their runs are finished."""
        from training.runs import FINISHED

        known = {one.folder for one in self.context.models.listed}
        runs = [run for run in runs_that_draw().values() if run / "model" not in known]
        return [(run / "model", (run / FINISHED).exists()) for run in runs]
