"""The words of History."""

TAB_GENERATE = "Generate"
TAB_HISTORY = "History"
SEARCH = "Search your pictures"
SEARCH_HINT = "apple seed:7 sampler:euler size:128x128"
SEARCH_HELP = (
    "Words of the prompt, and settings as name:value: seed, steps, guidance, size, width, height, sampler, "
    "schedule, model, negative, date. Numbers may be ranges: steps:10-20."
)
FAVOURITES_ONLY = "Favourites only"
FOUND_NONE = "No picture is like that."
FOUND = "{first} to {last} of {total}"
NEWER = "Newer"
OLDER = "Older"
CHOSEN_NONE = "Tick pictures to download or delete several."
CHOSEN_ONE = "1 picture chosen"
CHOSEN_MANY = "{count} pictures chosen"
CHOOSE = "Choose"
CHOOSE_PAGE = "Choose this page"
CHOOSE_NONE = "Choose none"
FORMAT = "Format"
PATTERN = "File names"
PATTERN_HELP = (
    "[date] [time] [seed] [prompt] [negative] [model] [sampler] [schedule] [steps] [guidance] [size]"
)
DOWNLOAD_ONE = "Download"
DOWNLOAD_CHOSEN = "Download chosen"
DELETE = "Delete"
DELETE_CHOSEN = "Delete chosen"
DELETE_ASK = "Delete this picture for good?"
DELETE_ASK_MANY = "Delete {count} pictures for good?"
DELETE_YES = "Yes, delete"
DELETE_NO = "Keep"
FAVOURITE_ADD = "Add to favourites"
FAVOURITE_REMOVE = "Remove from favourites"
FAVOURITE_MARK = "Favourite"
USE_ALL = "Use these settings"
USE_FIELD = "Use {name} alone"
OPEN_ONE = "Click a picture to see its settings."
DROP = "Drop a picture here to read its settings"
DROP_HINT = "Of Latent Studio, AUTOMATIC1111, ComfyUI, InvokeAI or Fooocus. The file is not kept."
DROP_NOTHING = "This file holds no settings that can be read."
DROP_PROGRAM = "Drawn by {program}"
DROP_LEFT = "Not used here"
DROP_USE = "Put into Generate"
NO_CHOICE = "Choose a picture first."

OPTION_NAMES = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "guidance_scale": "Guidance",
    "noise": "Noise source",
}


def found(page: int, per_page: int, total: int) -> str:
    """Which of the pictures that were found are shown."""
    if not total:
        return FOUND_NONE
    return FOUND.format(first=page * per_page + 1, last=min(total, (page + 1) * per_page), total=total)


def chosen(count: int) -> str:
    """How many pictures are ticked."""
    return CHOSEN_MANY.format(count=count) if count > 1 else CHOSEN_ONE if count else CHOSEN_NONE


def delete_question(count: int) -> str:
    """What is asked before pictures are deleted."""
    return DELETE_ASK if count == 1 else DELETE_ASK_MANY.format(count=count)
