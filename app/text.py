"""Every word that the page shows, in one place."""

TITLE = "Latent Studio"
TAGLINE = "Pictures from words, drawn on this machine"

PROMPT = "Prompt"
PROMPT_HINT = "A red apple, a happy cat, a sailing boat on blue…"
NEGATIVE = "Negative prompt"
NEGATIVE_HINT = "What should not be in it"
TOKENS = "{count} of {limit} tokens"
TOKENS_CUT = "Not read: {words}"
NO_WILDCARD = "There is no wildcards/{name}.txt, so __{name}__ is read as words"
END_IS_WEIGHT = "The number behind the last colon is the weight of the prompt: {weight}"
STYLES = "Styles"
GENERATE = "Generate"
STOP = "Stop"
SKIP = "Skip"
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


def stopped(count: int) -> str:
    """What stands below the pictures of a job that was stopped."""
    return STOPPED_ONE if count == 1 else STOPPED_MANY.format(count=count)


def seconds_left(value: float) -> str:
    """A rough duration, as an estimate deserves: whole seconds."""
    return seconds(max(10.0, value)) if value >= 10 else f"{max(1, round(value))} s"


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
TAB_GENERATE = "Generate"
