"""Every word that the page shows, in one place; in other languages under the same names in languages/."""

import sys

from app.language import Spoken

sys.modules[__name__].__class__ = Spoken  # read as `text.NAME` while a page is built or a request answered

TITLE = "Latent Studio"
TAGLINE = "Pictures from words, drawn on this machine"
LANGUAGE = "Language"
LOGIN = "Sign in"
LOGIN_USER = "User name"
LOGIN_PASSWORD = "Password"  # noqa: S105
LOGIN_ALREADY = "Already signed in? Continue."
LOGIN_WRONG = "The user name or the password is wrong."
LOGIN_LATER = "Too many wrong passwords: try again in {seconds} seconds."

PROMPT = "Prompt"
PROMPT_HINT = "A red apple, a happy cat, a sailing boat on blue…"
NEGATIVE = "Negative prompt"
NEGATIVE_HINT = "What should not be in it"
TOKENS = "{count} of {limit} tokens"
TOKENS_CUT = "Not read: {words}"
NO_WILDCARD = "There is no wildcards/{name}.txt, so __{name}__ is read as words"
END_IS_WEIGHT = "The number behind the last colon is the weight of the prompt: {weight}"
UNKNOWN_WORDS = "The model does not know these words: {words}"
READS_AS = "It knows them as:"
READ_SO = "Put this in the prompt"
NOT_LEARNED = "It was never shown: {words}"
NOT_TRANSLATED = "Left out: {words}"
STYLES = "Styles"
GENERATE = "Generate"
STOP = "Stop"
SKIP = "Skip"
FOREVER = "Draw again and again"
LIVE = "Live: draw while I type"
LIVE_REFUSED = "Not drawn: {reason}"
SWAP = "Swap width and height"
EXAMPLES = "Try one of these"
MODEL = "Model"
SIZE = "Size"
CUSTOM_SIZE = "Custom"
WIDTH = "Width"
HEIGHT = "Height"
COUNT = "Pictures"
INSTANT = "Instant"
INSTANT_HINT = "In few steps, by the student of this model"
INSTANT_STEPS = "{steps}, instant"
STEPS = "Steps"
GUIDANCE = "Guidance"
SAMPLER = "Sampler"
SCHEDULE = "Schedule"
SEED = "Seed (-1 is random)"
DICE = "Random"
FINER = "Variations, guidance interval, batch, noise"
GUIDANCE_START = "Guidance from"
GUIDANCE_END = "Guidance to"
GUIDANCE_INTERVAL_HINT = "Share of the steps; outside of it the prompt alone draws, which is faster and freer"
BATCH_SIZE = "Drawn at once (0: as many as memory takes)"
NOISE = "Noise source"
NOISES = {"cpu": "CPU", "nv": "As on NVIDIA GPUs"}
SAVE_DEFAULTS = "Make these my defaults"
FORGET_DEFAULTS = "Back to the model's defaults"
SAVED_DEFAULTS = "{model} begins with these settings from now on."
FORGOTTEN_DEFAULTS = "These are the settings that {model} was made for."
KEEP_SEED = "Last used"
SETTINGS = "Settings"
REUSE = "Reuse these settings"
REUSE_SEED = "Keep this seed"
DOWNLOAD = "Download PNG"
DOWNLOAD_AS = "as {format}"
COPY_PROMPT = "Copy prompt"
COPY_SEED = "Copy seed"
HISTORY = "Your pictures"
HISTORY_EMPTY = "Pictures you draw are kept here, with the settings that made them."
KEYS = "<kbd>Enter</kbd> draws, <kbd>Shift</kbd> <kbd>Enter</kbd> starts a new line, <kbd>Esc</kbd> stops"
ALL_KEYS = "All keys"
KEY_SHEET = "Keys"
KEY_MEANINGS = {
    "<kbd>Enter</kbd> in the prompt, <kbd>Ctrl</kbd> <kbd>Enter</kbd> anywhere": "draw",
    "<kbd>Shift</kbd> <kbd>Enter</kbd>": "new line in the prompt",
    "<kbd>Esc</kbd>": "stop drawing, or close what is open",
    "<kbd>Ctrl</kbd> <kbd>\N{UPWARDS ARROW}</kbd> <kbd>\N{DOWNWARDS ARROW}</kbd>": "weight of a selection",
    "<kbd>F</kbd>": "the picture in the whole window",
    "<kbd>\N{LEFTWARDS ARROW}</kbd> <kbd>\N{RIGHTWARDS ARROW}</kbd>": "the picture before, the next one",
    "<kbd>?</kbd>": "this sheet",
}
ENLARGE = "Large"
VIEWER = {"previous": "Previous", "next": "Next", "close": "Close", "copied": "Copied"}

FROM_IMAGE = "From an image"
PICTURE_AND_MASK = "Picture to start from; paint over what is to change"
STRENGTH = "Strength"
STRENGTH_HINT = "How much of the picture, or of what is painted over, is drawn anew"
ONLY_MASKED = "Only the masked area"
ONLY_MASKED_HINT = "Draws what is painted over at the size in Settings and puts it back"
MASK_BLUR = "Soft edge"
MASK_PADDING = "Padding"
FILL = "The masked area begins with"
LEFT_SIDE, TOP, RIGHT_SIDE, BOTTOM = "Add left", "Add top", "Add right", "Add bottom"
LARGER = "Larger, seamless"
SCALE = "Second pass, times as large"
SCALE_HINT = "1 is no second pass"
UPSCALER = "Enlarged by"
SECOND_STRENGTH = "Strength of the second pass"
SECOND_STEPS = "Its steps (0: as many)"
TILING = "Seamless: opposite edges fit together"
VARIATION_SEED = "Variation seed (-1 is random)"
VARIATION = "Variation strength"
START_FROM = "Start from this picture"
BEFORE_AFTER = "Before and after"

STAGE = "Picture"
EMPTY_STAGE = "Your picture appears here"
EMPTY_STAGE_HINT = "Write what you want to see, or pick an example."

LOADING = "Loading the model"
READING = "Reading the prompt"
DECODING = "Finishing the picture"
STOPPING = "Stopping after this step"
SKIPPING = "Skipping after this step"
STOPPED = "Stopped. Nothing was saved."
STOPPED_ONE = "Stopped. The picture that was finished is kept."
STOPPED_MANY = "Stopped. The {count} pictures that were finished are kept."
INTERRUPTED = "The server stopped while this was being drawn. Press Generate to draw it again."
DONE_ONE = "Done in {seconds}"
DONE_MANY = "{count} pictures in {seconds}"
QUEUED_NEXT = "Next in line"
QUEUED = "Waiting: {position} before yours"
STEP = "Step {step} of {total}"
BATCH_ONE = "picture {first} of {count}"
BATCH_MANY = "pictures {first} to {last} of {count}"
LEFT = "{seconds} left"
MORE_WAITING = "{count} more waiting"
STATUS_STARTED = "Drawing"
STATUS_QUEUED = "Your job is waiting in line"
STATUS_STOPPED = "Stopped"
STATUS_FAILED = "Drawing failed"

LINE = "In line"
LINE_INTERRUPTED = "The server stopped while this was drawn or waited"
LINE_ACTIONS = {
    "up": "Earlier",
    "down": "Later",
    "cancel": "Cancel",
    "again": "Draw again",
    "forget": "Leave it",
}

MEASURED = "How good this model is"
MEASURED_KINDS = {
    "train": "training captions",
    "heldout": "held-out pairs",
    "paraphrase": "other words",
}
RETRIEVAL = "What was asked is among the five nearest real pictures"
SHARE_OF_REAL = "{share} of what real pictures reach"
KERNEL = "Kernel distance"
FRECHET = "Frechet distance"
PSNR = "Autoencoder, PSNR"
PSNR_BOX = "PSNR inside the thing's box"
SSIM = "SSIM"
MEASURED_INSTANT = "Instant, {steps} steps"
TIMES = "{ratio} times the kernel distance"
POINTS_LOST = "{points} points of retrieval lost"
NOT_MEASURED_DIFFUSION = "What it draws has not been measured yet. This measures it:"
NOT_MEASURED_AUTOENCODER = "Its autoencoder has not been measured yet. This measures it:"

NOT_POSSIBLE = "Not possible like this"
GUIDANCE_HINT = "Higher follows the prompt more closely"
NO_PROMPT = "The prompt is empty: write what you want to see, or pick an example."
NO_MODEL = "There is no model to draw with. Put a model folder under checkpoints/, or start with --model DIR."
NO_LAST_SEED = "Draw a picture first; its seed can then be used again."
NOT_A_SIZE = "Width and height must be whole numbers of pixels."
GONE = "That picture is no longer there."

SIZE_NAMES = {
    "square": "Square",
    "portrait": "Portrait",
    "landscape": "Landscape",
    "wide": "Wide",
    "tall": "Tall",
}

EXAMPLE_PROMPTS = (
    "a red apple",
    "a happy cat",
    "a slice of pizza",
    "a sailing boat on a blue background",
    "a green frog, fluent 3d style",
    "a smiling sun",
)

COMPARED = {
    "prompt": "Words",
    "seed": "Seed",
    "steps": "Steps",
    "guidance_scale": "Guidance",
    "sampler": "Sampler",
    "schedule": "Schedule",
    "width": "Width",
    "height": "Height",
    "model": "Model",
    "checkpoint": "Checkpoint",
}

TAB_COMPARE = "Compare"
COMPARE = "Compare"
COMPARE_HINT = "Everything else is as it stands on the Generate tab, the prompt and the seed too."
COMPARE_AXES = ("To the right", "Downwards", "In blocks")
COMPARE_NOTHING = "nothing"
COMPARE_VALUES = "Values"
COMPARE_NO_AXIS = "Nothing is compared: choose a setting for at least one of the three."
COMPARE_HELP = (
    '<details class="ls-help"><summary>How values are written</summary><ul>'
    "<li><code>1, 5, 20</code>: these values</li><li><code>1-5</code>: 1, 2, 3, 4, 5</li>"
    "<li><code>5-20 (+5)</code>: in steps of 5</li><li><code>1-10 [4]</code>: four of them, evenly</li>"
    "<li>Words: <code>cat, dog, bird</code> puts dog and bird in the place of cat in the prompt; words that "
    'hold a comma stand in <code>"quotes"</code></li>'
    "<li>Model: names as on the tab Models</li>"
    "<li>Checkpoint: <code>NAME: 500, 1000</code> are two steps of the training run NAME, "
    "<code>NAME: all</code> are all that it has kept</li></ul></details>"
)
COMPARE_EMPTY = "Your comparison appears here"
COMPARE_EMPTY_HINT = "Choose one, two or three settings and the values that each should take."
COMPARE_PROGRESS = "Picture {number} of {total}"
SHEET = "Sheet of the comparison"

DETAILS = {
    "negative": "Without",
    "seed": "Seed",
    "size": "Size",
    "steps": "Steps",
    "sampler": "Sampler",
    "guidance": "Guidance",
    "interval": "Guidance interval",
    "variation": "Variation",
    "noise": "Noise source",
    "model": "Model",
    "drawn": "Drawn",
}
VARIATION_OF = "{strength} of seed {seed}"


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


SECONDS = "{seconds} s"
MINUTES = "{minutes} min {seconds} s"
HOURS = "{hours} h {minutes} min"
DATE = "%d %b %Y, %H:%M"
PICTURE_WORDS = "{prompt}, seed {seed}"
PREVIEW_WORDS = "Preview of picture {number} of {count}: {prompt}"


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


def seconds(value: float) -> str:
    """A duration for a person: "0.8 s", "12 s", "3 min 20 s"."""
    if value < 90:
        return SECONDS.format(seconds=f"{value:.1f}" if value < 10 else f"{value:.0f}")
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return MINUTES.format(minutes=minutes, seconds=rest)
    return HOURS.format(hours=minutes // 60, minutes=minutes % 60)


def size(width: int, height: int) -> str:
    """Pixels, width first."""
    return f"{width}\N{MULTIPLICATION SIGN}{height}"


def done(count: int, taken_seconds: float) -> str:
    """What stands below finished pictures."""
    words = DONE_ONE if count == 1 else DONE_MANY
    return words.format(count=count, seconds=seconds(taken_seconds))


def stopped(count: int) -> str:
    """What stands below the pictures of a job that was stopped."""
    return STOPPED_ONE if count == 1 else STOPPED_MANY.format(count=count)


def seconds_left(value: float) -> str:
    """A rough duration, as an estimate deserves: whole seconds."""
    return seconds(value) if value >= 10 else SECONDS.format(seconds=max(1, round(value)))


# Look inside.
INSIDE = "Look inside"
INSIDE_FORM = "Look into what the form asks for"
INSIDE_HINT = (
    "Draw a picture and press Look inside below it: it is drawn again, slowly and in full view. "
    "Or look into what the form on the first tab asks for."
)
INSIDE_OF = "Looking at: {prompt}"
INSIDE_GONE = "What was looked at is no longer in memory; look at it again."
INSIDE_HERE_ONLY = "Only a model that draws on this machine, with torch, can be looked into."
INSIDE_STOPPED = "Stopped."
INTERRUPTED_LOOK = "The server stopped meanwhile; look again."
LOOKING = "Looking"
INSIDE_AGAIN = "The picture, drawn again"
INSIDE_NO_WORDS = "No words are read here: guidance is 0, or the model draws classes."
INSIDE_HOVER = (
    "Point at a word, or step to it with Tab: the picture stays bright where it looked at the word."
)
INSIDE_MAPS_OF = "Maps of"
INSIDE_ALL_STEPS = "all steps, their mean"
INSIDE_STEP = "step {step}"
INSIDE_STEPS = "steps {first} to {last}"
INSIDE_SHARE = "{share:.1%} of the attention"
INSIDE_FROM_FORM = "Drawn from the form; there is no earlier picture to compare it with."
INSIDE_OTHER_SIZE = "The picture you have has another size, so the two cannot be compared."
INSIDE_IDENTICAL = "Drawn again, it is your picture to the last bit."
INSIDE_LIKENESS = (
    "Drawn again, it is {psnr:.1f} dB PSNR from your picture; no colour differs by more than {most} of 255."
)
INSIDE_WORDS = "Words"
INSIDE_STEPS_TAB = "Steps"
INSIDE_LATENT = "Latent"
INSIDE_LAB = "Lab"
STEP_NUMBER = "Step"
STEP_NOISY = "What the model saw"
STEP_CLEAN = "What it takes it for"
STEP_DIFFERENCE = "The difference"
STEP_LEVEL = "Step {step} of {total}: noise to signal {sigma:.3g}"
DECODE = "Decode this step"
BRANCH = "Branch from here"
BRANCH_HINT = "Go on from this step with other words, guidance or another sampler."
BRANCH_BEFORE = "As it was"
BRANCH_AFTER = "Branched at step {step}"
CHANNEL = "Channel {number}"
WALK = "A walk between two pictures"
WALK_HINT = "From this picture to the one of other words, another seed, or both."
WALK_PROMPT = "To these words"
WALK_SEED = "To this seed"
WALK_FRAMES = "Pictures on the way"
WALK_START = "Walk"
WALK_FRAME = "Picture {number} of the walk"
WALK_DOWNLOAD = "Download WebP"
LAB_HINT = "Any picture there and back, by each autoencoder at hand."
LAB_PICTURE = "Your picture"
LAB_START = "Take it there and back"
LAB_NO_PICTURE = "Give the autoencoders a picture first."
LAB_SHOWN = "Shown on the right"
LAB_SLIDER = "Left your picture, right what is left of it"
LAB_COLUMNS = ("Autoencoder", "f", "Channels", "Numbers a pixel (of 3)", "PSNR", "SSIM")


# Models.
TAB_MODELS = "Models"
MODELS_HINT = "What draws here. Each is a folder on this machine's disk; nothing is fetched."
MODEL_USE = "Draw with it"
MODEL_CHOSEN = "Chosen"
MODEL_REMOVE = "Remove from the list"
MODEL_FOLDER = "Folder of a model"
MODEL_FOLDER_HINT = "In diffusers' layout, with weights as safetensors; or the folder of a training run."
MODEL_ADD = "Add to the list"
MODEL_NO_FOLDER = "Write the path of a model's folder first."
MODEL_NO_PATH = "{path} is no path to a folder."
MODEL_NOT_YOURS = "The list is changed at the machine that this page runs on, on a page without passwords."
MODEL_GONE = "Its folder is no longer there. The model is offered again when it is back."
MODEL_UNKNOWN = "That model is no longer on the list."
MODEL_CHANGED = "Its files changed at {time}; pictures asked for since then are drawn by the new ones."
MODELS_FOUND = "Found among the training runs"
MODELS_FOUND_HINT = "The newest export of each, also of a run that still goes on; none is loaded yet."
MODEL_OFFER = "Offer it"
MODEL_RUN_DONE = "finished"
MODEL_RUN_OPEN = "not finished"
MODEL_ROWS = {
    "draws": "Draws",
    "parameters": "Parameters",
    "predicts": "Predicts",
    "autoencoder": "Autoencoder",
    "reads": "Reads",
    "data": "Trained on",
    "licence": "Licence",
    "disk": "On disk",
    "folder": "Folder",
}
MODEL_PARTS = {
    "unet": "denoiser {count}",
    "unet_instant": "student {count}",
    "vae": "autoencoder {count}",
    "text_encoder": "text encoder {count}",
    "class_encoder": "classes {count}",
}
MODEL_TOTAL = "{total}: {parts}"
MODEL_DRAWS = "{size}, {steps} steps, {sampler}, guidance {guidance}"
MODEL_PREDICTS = {
    "epsilon": "the noise (epsilon)",
    "v_prediction": "velocity (v)",
    "flow_prediction": "the flow from picture to noise (rectified flow)",
}
MODEL_KL = "KL, f = {factor}, {channels} channels"
MODEL_VQ = "VQ of {codes} codes, f = {factor}, {channels} channels"
MODEL_PIXELS = "none: it draws pixels"
MODEL_WORDS = "words, by a text encoder of the kind {encoder}"
MODEL_ENCODERS = {
    "bert": "BERT",
    "roberta": "RoBERTa",
    "distilbert": "DistilBERT",
    "mpnet": "MPNet",
    "clip_text_model": "CLIP",
    "t5": "T5",
}
MODEL_CLASSES = "no words: {count} classes"
MODEL_SHOWN = {
    "inpaint": "{reads}; and a picture with a part to paint",
    "upscale": "{reads}; and a picture to enlarge",
}
NOT_SAID = "not said"


def parameters(count: int) -> str:
    """A number of parameters: "22.5 M", "860 M", "1.2 B"."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {letter}"
    return str(count)


def file_size(size_bytes: int) -> str:
    """A size on the disk: "45.1 MB"."""
    for unit, letters in ((1e9, "GB"), (1e6, "MB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.3g} {letters}"
    return f"{size_bytes / 1e3:.3g} kB"


# Train.
TAB_TRAIN = "Train"
TRAIN_HINT = "Name a folder of pictures on this machine, look at what is in it, and start."
TRAIN_ELSEWHERE = (
    "Training reads this machine's disk and keeps it busy for hours, so it is for the person who sits at it: "
    "start the page there without --share, --host and --auth-file, or use python launch.py train."
)
TRAIN_FOLDER = "Folder of pictures"
TRAIN_FOLDER_HINT = "/home/ann/drawings"
TRAIN_LOOK = "Look"
TRAIN_LOOKING = "Looking at every picture"
TRAIN_BUDGET = "For how long"
TRAIN_UNIT = "Counted in"
TRAIN_UNITS = {"minutes": "minutes", "steps": "steps", "pictures": "pictures seen"}
TRAIN_START = "Start training"
TRAIN_HOW = "How it is trained"
TRAIN_STAGE = "What is trained"
TRAIN_STAGES = {
    "diffusion": "The denoiser: words to pictures",
    "autoencoder": "The autoencoder: pictures to latents and back",
    "distill": "A student that draws in few steps",
}
TRAIN_BEGIN = "Begin from"
TRAIN_FROM_NOTHING = "nothing: a new model"
TRAIN_PRESET = "Preset"
TRAIN_SIDE = "Side in pixels"
TRAIN_AUTOENCODER = "In the latents of"
TRAIN_AS_PRESET = "as the preset has it"
TRAIN_NAME = "Name"
TRAIN_NAME_HINT = "as the folder"
TRAIN_MORE = "Other settings, one a line"
TRAIN_MORE_HINT = "optimizer.learning_rate=2e-4"
TRAIN_ESTIMATE = "What will it take?"
TRAIN_MEASURING = "Measuring a few steps on this machine"
TRAIN_MEASURING_FIRST = (
    "Measuring a few steps on this machine; the training starts after that, so keep this page open"
)
TRAIN_ESTIMATED = {
    "parameters": "Parameters",
    "memory": "Memory",
    "work": "Work",
    "length": "Length",
    "time": "Time",
    "disk": "Disk",
}
TRAIN_USED = "<b>{count}</b> pictures will be used, with {captions} captions; {skipped} files are skipped."
TRAIN_SPLIT = "{split}: {count}"
TRAIN_SKIPPED = "What is skipped, and why"
TRAIN_MORE_SKIPPED = "and {count} more"
TRAIN_SOME_SHOWN = "{count} of them, evenly spread:"
TRAIN_SHEET = "Pictures of the folder"
TRAIN_NO_FOLDER = "No folder is named: write where on this machine the pictures lie."
TRAIN_NOT_A_FOLDER = "{folder} is not a folder that can be read: write the path of one on this machine."
TRAIN_NONE_USABLE = "{error}: {reasons}"
TRAIN_TOO_MANY = (
    "There are more than {limit} files below {folder}: look with `python launch.py data check`, or start "
    "without looking."
)
TRAIN_NO_PRESET = "Choose what is trained, and one of its presets."
TRAIN_MODEL_GONE = "{model} cannot be begun from (any more): choose another."
TRAIN_NO_TEACHER = "A student needs a teacher: choose a model under Begin from."
TRAIN_NO_BUDGET = "Say for how long it should train: a number above zero."
TRAIN_BAD_NAME = (
    "{name!r} cannot be the name of a training: use up to 60 letters, digits, dots, dashes and underscores, "
    "beginning with a letter or a digit."
)
TRAIN_RUNS_ALREADY = "{name} is being trained already."
TRAIN_CANNOT_GO_ON = "{name} cannot be gone on with: it runs, is finished, or has no settings."
TRAIN_NO_WORDS = "It ended without a word; perhaps the machine was switched off."
TRAIN_GONE = "That training is no longer there."
TRAIN_RUN = "Training"
TRAIN_OTHER = "Beside it"
TRAIN_NO_OTHER = "none"
TRAIN_NONE = "Your training appears here"
TRAIN_NONE_HINT = "It goes on when this page or the server is closed, and is found again here."
TRAIN_STATES = {
    "starting": "Starting",
    "running": "Training",
    "stopping": "Ends after this step",
    "paused": "Paused",
    "stopped": "Stopped",
    "failed": "Failed",
    "finished": "Finished",
}
TRAIN_PAUSE = "Pause"
TRAIN_STOP = "Stop"
TRAIN_RESUME = "Go on"
TRAIN_TRY = "Try this checkpoint now"
TRAIN_USE_AUTOENCODER = "Train a denoiser in its latents"
TRAIN_NOTHING_YET = "There is no checkpoint yet; the first one comes within minutes, or when you pause."
TRAIN_STEP = "Step {step} of {total}"
TRAIN_SPEED = "{speed} pictures a second"
TRAIN_LEFT = "{seconds} left"
TRAIN_AT_LOSS = "loss {loss}"
TRAIN_SAID = "It said: {words}"
TRAIN_SCALE = "Scale of the losses"
TRAIN_SCALES = {"log": "logarithmic", "linear": "linear"}
CURVE_LOG = "logarithmic"
CURVE_LINEAR = "linear"
CURVE_IN_WORDS = "{name}: from {first} to {last} at step {last_step}, lowest {lowest} at step {lowest_step}."
TRAIN_LOSS = "Training loss"
TRAIN_VALIDATION = "Loss on pictures kept out, mean over five levels of noise"
TRAIN_PSNR = "Pictures kept out, there and back, PSNR in dB"
TRAIN_SAMPLES = "Samples"
TRAIN_SAMPLES_AT = "{name}, step {step}"
TRAIN_SAMPLE_WORDS = "What was asked, row by row"
TRAIN_DIFFERENT = "Settings that differ"
TRAIN_SETTING = "Setting"
TRAIN_NOT_SET = "not set"
TRAIN_SAME = "The two have the same settings."

LORA = "LoRA"
LORA_NONE = "none"
LORA_WEIGHT = "Weight"
LORA_CAPTIONS = "It learned these words: {captions}. Its tag is in the prompt; write some of them beside it."
LORA_NO_CAPTIONS = "Its tag is in the prompt. It does not say which words it learned."

TEACH = "Teach it a thing"
TEACH_HINT = (
    "Drop 1 to 20 pictures of one thing and give it a name. The model chosen in Generate learns it within "
    "some minutes, and keeps what it knew."
)
TEACH_PICTURES = "Pictures of the thing"
TEACH_NAME = "Its name"
TEACH_NAME_HINT = "a word of your own, or an ordinary one"
TEACH_MINUTES = "Minutes"
TEACH_START = "Teach"
TEACH_STOP = "Stop and keep what it has learned"
TEACH_NO_PICTURES = "Choose 1 to 20 pictures of the thing first."
TEACH_NO_MODEL = "There is no model here that learns words; choose one in Generate."
TEACH_PREVIEW = "Drawn by its name after {step} steps"
TEACH_USE = "Draw it in Generate"
TEACH_NOT_YET = "Nothing is learned yet; wait for the first preview."
