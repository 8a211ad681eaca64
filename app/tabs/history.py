"""The History tab: every picture of one owner, to find, keep, use again, download and delete."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr
from gradio.utils import get_upload_folder

from app import gallery, text
from app.context import Context
from app.picture import Picture
from app.shelf import shelf, take_down
from app.tabs.chosen import favourite_label
from app.tabs.downloads import FETCH, download_link
from app.tabs.drop import FOCUS_PROMPT, DropBox
from app.tabs.events import CLICK_ON_ID, POLITE, QUICK, Update, Updates, focus_on, owner_of, refusal
from app.tabs.generate import GenerateTab
from models.errors import StudioError
from pipelines.export import SUFFIXES
from pipelines.filename import DEFAULT_PATTERN

# On a phone it is shown below all the pictures.
SHOW_OPENED = (
    "() => { if (innerWidth <= 820) document.querySelector('#opened').scrollIntoView({block: 'start'}); }"
)
FOCUS_KEEP = focus_on("#delete-no")


class HistoryTab:
    """Builds the tab into the Blocks that are open, and holds its handlers."""

    def __init__(self, context: Context, generate: GenerateTab, tabs: gr.Tabs, tab: gr.Tab) -> None:
        self.context, self.generate, self.tabs, self.form = context, generate, tabs, generate.form
        with gr.Row(elem_id="library"):
            with gr.Column(elem_id="library-list"):
                with gr.Row(elem_id="library-ask"):
                    self.words = gr.Textbox(
                        label=text.SEARCH,
                        placeholder=text.SEARCH_HINT,
                        info=text.SEARCH_HELP,
                        max_lines=1,
                        elem_id="search",
                    )
                    self.favourites = gr.Checkbox(label=text.FAVOURITES_ONLY, elem_id="favourites-only")
                self.count = gr.HTML("", js_on_load=POLITE, apply_default_css=False, elem_id="found")
                self.grid = gr.HTML("", js_on_load=gallery.GRID, apply_default_css=False, elem_id="grid")
                with gr.Row(elem_id="pager"):
                    self.newer = gr.Button(text.NEWER, size="sm", elem_id="newer")
                    self.older = gr.Button(text.OLDER, size="sm", elem_id="older")
            with gr.Column(elem_id="library-side"):
                self._build_confirmation()
                self._build_opened()
                self._build_chosen()
                self.drop = DropBox(context, self.form, tabs)
        self.page, self.opened = gr.State(0), gr.State("")
        self.picked, self.doomed = gr.State([]), gr.State([])
        self._asked = [generate.browser, self.words, self.favourites, self.page, self.opened, self.picked]
        self._seen = [
            self.count, self.grid, self.page, self.newer, self.older, self.side, self.actions, self.favourite,
            self.opened, self.picked, self.chosen, self.download_chosen, self.delete_chosen,
        ]  # fmt: skip
        self._connect(tab)

    def _build_confirmation(self) -> None:
        with gr.Column(visible=False, elem_id="confirm") as self.confirm:
            self.question = gr.HTML("", js_on_load=POLITE, apply_default_css=False, elem_id="question")
            with gr.Row():
                self.delete_yes = gr.Button(text.DELETE_YES, variant="stop", size="sm", elem_id="delete-yes")
                self.delete_no = gr.Button(text.DELETE_NO, size="sm", elem_id="delete-no")

    def _build_opened(self) -> None:
        self.side = gr.HTML(
            gallery.opened(None), js_on_load=CLICK_ON_ID, apply_default_css=False, elem_id="opened"
        )
        with gr.Row(visible=False, elem_id="opened-actions") as self.actions:
            self.use = gr.Button(text.USE_ALL, variant="primary", size="sm", elem_id="use")
            self.favourite = gr.Button(text.FAVOURITE_ADD, size="sm", elem_id="favourite")
            self.download = gr.Button(text.DOWNLOAD_ONE, size="sm", elem_id="download")
            self.delete = gr.Button(text.DELETE, size="sm", elem_id="delete")

    def _build_chosen(self) -> None:
        with gr.Column(elem_id="several"):
            self.chosen = gr.HTML(
                text.chosen(0), js_on_load=POLITE, apply_default_css=False, elem_id="chosen-count"
            )
            with gr.Row(elem_id="several-actions"):
                self.choose_page = gr.Button(text.CHOOSE_PAGE, size="sm", elem_id="choose-page")
                self.choose_none = gr.Button(text.CHOOSE_NONE, size="sm", elem_id="choose-none")
                self.download_chosen = gr.Button(text.DOWNLOAD_CHOSEN, size="sm", elem_id="download-chosen")
                self.delete_chosen = gr.Button(text.DELETE_CHOSEN, size="sm", elem_id="delete-chosen")
            self.format = gr.Radio(list(SUFFIXES), value="PNG", label=text.FORMAT, elem_id="format")
            self.pattern = gr.Textbox(
                DEFAULT_PATTERN, label=text.PATTERN, info=text.PATTERN_HELP, max_lines=1, elem_id="pattern"
            )
            self.link = gr.HTML("", apply_default_css=False, elem_id="download-link")

    def _connect(self, tab: gr.Tab) -> None:
        browser, opened, picked = self.generate.browser, self.opened, self.picked
        latest = {**QUICK, "trigger_mode": "always_last"}
        tab.select(self.look, self._asked, self._seen, **QUICK)
        # Not `input`, which Gradio does not send for the first words where they are pasted.
        self.words.change(self.search, self._asked, self._seen, **latest)
        self.favourites.input(self.search, self._asked, self._seen, **latest)
        self.newer.click(self.turn_back, self._asked, self._seen, **QUICK)
        self.older.click(self.turn_on, self._asked, self._seen, **QUICK)
        opening = self.grid.select(self.open, self._asked, self._seen, **latest)
        opening.success(None, None, None, js=SHOW_OPENED)
        chosen = [picked, self.chosen, self.download_chosen, self.delete_chosen]
        self.grid.input(self.pick, [picked], chosen, **latest)
        self.choose_page.click(self.pick_page, self._asked, self._seen, **QUICK)
        self.choose_none.click(self.pick_none, self._asked, self._seen, **QUICK)
        self.favourite.click(self.turn_favourite, self._asked, self._seen, **QUICK)
        asking = [self.doomed, self.confirm, self.question]
        for button, which in ((self.delete, opened), (self.delete_chosen, picked)):
            asked = button.click(self.ask_to_delete, [which], asking, **QUICK)
            asked.success(None, None, None, js=FOCUS_KEEP)
        self.delete_no.click(lambda: ([], gr.update(visible=False)), None, asking[:2], **QUICK)
        deleted = self.delete_yes.click(
            self.delete_doomed, [browser, self.doomed, picked], [*asking[:2], picked], **QUICK
        )
        deleted.then(self.look, self._asked, self._seen, **QUICK)
        form = [*self.form.outputs, self.tabs]
        for used in (
            self.use.click(self.use_all, [browser, opened], form, **QUICK),
            self.side.select(self.use_one, [browser, opened, self.form.model], form, **QUICK),
        ):
            used.success(None, None, None, js=FOCUS_PROMPT)
        how = [self.format, self.pattern]
        for button, which in ((self.download, opened), (self.download_chosen, picked)):
            packed = button.click(self.pack, [browser, which, *how], [self.link], **QUICK)
            packed.success(None, [self.link], None, js=FETCH)

    def look(self, request: gr.Request, *asked: Any) -> Update:
        """Everything as it is now."""
        return self._look(request, Asked(*asked))

    def search(self, request: gr.Request, *asked: Any) -> Update:
        """What was typed is looked for from the first page on."""
        return self._look(request, Asked(*asked)._replace(page=0))

    def turn_back(self, request: gr.Request, *asked: Any) -> Update:
        """The page of newer pictures."""
        now = Asked(*asked)
        return self._look(request, now._replace(page=now.page - 1))

    def turn_on(self, request: gr.Request, *asked: Any) -> Update:
        """The page of older pictures."""
        now = Asked(*asked)
        return self._look(request, now._replace(page=now.page + 1))

    def open(self, request: gr.Request, event: gr.EventData, *asked: Any) -> Update:
        """A click on a picture: it is shown large; the grid has marked it by itself."""
        seen = self._look(request, Asked(*asked)._replace(opened=str(event.id)))
        # Ticks are not touched: one may be made meanwhile.
        return (seen[0], gr.skip(), *seen[2:-4], *[gr.skip()] * 4)

    def pick(self, event: gr.EventData, picked: Sequence[str]) -> Update:
        """A box was ticked: those of this page are as the browser says, those of others stay."""
        shown, ticked = ([str(name) for name in names] for names in (event.shown, event.picked))
        chosen = [name for name in picked if name not in shown] + ticked
        return chosen, *self._choice(chosen)

    def pick_page(self, request: gr.Request, *asked: Any) -> Update:
        """Tick every picture of this page."""
        now = Asked(*asked)
        pictures, _ = self._found(owner_of(request, now.browser), now)
        chosen = dict.fromkeys([*now.picked, *(picture.id for picture in pictures)])
        return self._look(request, now._replace(picked=list(chosen)))

    def pick_none(self, request: gr.Request, *asked: Any) -> Update:
        """Tick none, on no page."""
        return self._look(request, Asked(*asked)._replace(picked=[]))

    def turn_favourite(self, request: gr.Request, *asked: Any) -> Update:
        """Make the open picture a favourite, or no longer."""
        now = Asked(*asked)
        (picture,) = self._pictures(request, now.browser, now.opened)
        try:
            self.context.library.set_favourite(picture, not picture.favourite)
        except StudioError as error:
            raise refusal(error) from None
        return self._look(request, now)

    def ask_to_delete(self, which: str | Sequence[str]) -> Update:
        """Ask before one picture, or those that were chosen, are deleted."""
        names = [which] if isinstance(which, str) else list(which)
        if not names:
            raise refusal(text.NO_CHOICE)
        return names, gr.update(visible=True), text.delete_question(len(names))

    def delete_doomed(
        self, request: gr.Request, browser: str, doomed: Sequence[str], picked: Sequence[str]
    ) -> Update:
        """Delete the pictures that were asked about; one that cannot be deleted is named, the others go."""
        failures = []
        for picture in self._pictures(request, browser, doomed):
            take_down(picture.path, shelf(get_upload_folder()))
            try:
                self.context.library.delete(picture)
            except StudioError as error:
                failures.append(str(error))
        if failures:
            gr.Warning(failures[0], title=text.NOT_POSSIBLE)
        return [], gr.update(visible=False), [name for name in picked if name not in doomed]

    def use_all(self, request: gr.Request, browser: str, opened: str) -> Updates:
        """Put all settings of the open picture into the form, and show it."""
        (picture,) = self._pictures(request, browser, opened)
        return self.form.show(picture.request, picture.model) | {self.tabs: gr.Tabs(selected="generate")}

    def use_one(
        self, request: gr.Request, event: gr.EventData, browser: str, opened: str, model: str
    ) -> Updates:
        """Put the setting that was clicked into the form; all else in it stays."""
        (picture,) = self._pictures(request, browser, opened)
        shown = self.form.show_one(str(event.id), picture.request, picture.model, model)
        return {**shown, self.tabs: gr.Tabs(selected="generate")}

    def pack(
        self, request: gr.Request, browser: str, which: str | Sequence[str], format: str, pattern: str
    ) -> str:
        """A link to the pictures as a file, which the browser fetches at once."""
        return download_link(self._pictures(request, browser, which), format, pattern)

    def _look(self, request: gr.Request, now: "Asked") -> Update:
        owner, per_page = owner_of(request, now.browser), self.context.settings.pictures_shown
        now = now._replace(page=max(0, now.page))
        pictures, total = self._found(owner, now)
        if total and not pictures:  # the last picture of the last page was deleted
            now = now._replace(page=(total - 1) // per_page)
            pictures, total = self._found(owner, now)
        picture = self.context.library.find(now.opened, owner)
        if picture is not None and not picture.path.is_file():
            picture = None
        opened = picture.id if picture is not None else ""
        return (
            text.found(now.page, per_page, total),
            gallery.grid(pictures, opened, now.picked),
            now.page,
            gr.update(interactive=now.page > 0),
            gr.update(interactive=(now.page + 1) * per_page < total),
            gallery.opened(picture),
            gr.update(visible=picture is not None),
            favourite_label(picture),
            opened,
            list(now.picked),
            *self._choice(now.picked),
        )

    def _found(self, owner: str, now: "Asked") -> tuple[list[Picture], int]:
        return self.context.library.search(
            owner,
            now.words,
            favourites=now.favourites,
            page=now.page,
            limit=self.context.settings.pictures_shown,
        )

    def _choice(self, picked: Sequence[str]) -> Update:
        some = gr.update(interactive=bool(picked))
        return text.chosen(len(picked)), some, some

    def _pictures(self, request: gr.Request, browser: str, which: str | Sequence[str]) -> list[Picture]:
        """These pictures of this owner, those that are still there; gr.Error if none is."""
        owner = owner_of(request, browser)
        names = [which] if isinstance(which, str) else which
        found = [self.context.library.find(str(name), owner) for name in names]
        pictures = [picture for picture in found if picture is not None and picture.path.is_file()]
        if not pictures:
            raise refusal(text.GONE if names else text.NO_CHOICE)
        return pictures


class Asked(NamedTuple):
    """What every event of the tab is sent along: who asks, for what, and what is open and chosen."""

    browser: str
    words: str
    favourites: bool
    page: int
    opened: str
    picked: Sequence[str]
