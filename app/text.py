"""Every word that the page shows, in one place."""

TITLE = "Latent Studio"
TAGLINE = "Pictures from words, drawn on this machine"

PROMPT = "Prompt"
PROMPT_HINT = "A red apple, a happy cat, a sailing boat on blue…"
NEGATIVE = "Negative prompt"
NEGATIVE_HINT = "What should not be in it"
GENERATE = "Generate"
STOP = "Stop"
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
KEEP_SEED = "Last used"
SETTINGS = "Settings"
REUSE = "Reuse these settings"
REUSE_SEED = "Keep this seed"
DOWNLOAD = "Download PNG"
HISTORY = "Your pictures"
HISTORY_EMPTY = "Pictures you draw are kept here, with the settings that made them."
KEYS = "<kbd>Enter</kbd> draws, <kbd>Shift</kbd> <kbd>Enter</kbd> starts a new line, <kbd>Esc</kbd> stops"

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
LARGER = "Larger, seamless, varied"
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
STOPPED = "Stopped. Nothing was saved."
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

DETAILS = {
    "negative": "Without",
    "seed": "Seed",
    "size": "Size",
    "steps": "Steps",
    "sampler": "Sampler",
    "guidance": "Guidance",
    "model": "Model",
    "drawn": "Drawn",
}


def seconds(value: float) -> str:
    """A duration for a person: "0.8 s", "12 s", "3 min 20 s"."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 90:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(width: int, height: int) -> str:
    """Pixels, width first."""
    return f"{width}\N{MULTIPLICATION SIGN}{height}"


def done(count: int, taken_seconds: float) -> str:
    """What stands below finished pictures."""
    words = DONE_ONE if count == 1 else DONE_MANY
    return words.format(count=count, seconds=seconds(taken_seconds))


def seconds_left(value: float) -> str:
    """A rough duration, as an estimate deserves: whole seconds."""
    return seconds(max(10.0, value)) if value >= 10 else f"{max(1, round(value))} s"
