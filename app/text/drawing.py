"""The words of what is drawn, compared and measured."""

from app.text.amounts import seconds

STAGE = "Picture"
EMPTY_STAGE = "Your picture appears here"
EMPTY_STAGE_HINT = "Write what you want to see, or pick an example."

LOADING = "Loading the model"
READING = "Reading the prompt"
WAITING_THERE = "Waiting for {server}"
NO_STEPS_THERE = "Drawn by {server}, which shows no previews"
BACKEND_ONLY = (
    "This page draws on {server} alone; start one without --backend to draw with a model of this machine."
)
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
SHARE_OF_REAL = "{share} of the {ceiling} that real pictures reach"
NEAREST_ONE = "the nearest one: {found}, of real pictures {ceiling}"
CAPTIONS_ASKED = "{n} captions"
KERNEL = "Kernel distance"
FRECHET = "Frechet distance"
PSNR = "Autoencoder, PSNR"
PSNR_BOX = "PSNR inside the thing's box"
SSIM = "SSIM"
MEASURED_INSTANT = "Instant, {steps} steps"
TIMES = "{ratio} times the kernel distance"
POINTS_LOST = "points of retrieval lost: {points}"
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
    "controls": "Guided by",
    "noise": "Noise source",
    "model": "Model",
    "drawn": "Drawn",
    "engine": "Engine",
    "note": "Note",
}
VARIATION_OF = "{strength} of seed {seed}"
CONTROL_OF = "{name}, weight {scale}"


def done(count: int, taken_seconds: float) -> str:
    """What stands below finished pictures."""
    words = DONE_ONE if count == 1 else DONE_MANY
    return words.format(count=count, seconds=seconds(taken_seconds))


def stopped(count: int) -> str:
    """What stands below the pictures of a job that was stopped."""
    return STOPPED_ONE if count == 1 else STOPPED_MANY.format(count=count)
