"""The words of Train, of teaching and of LoRAs."""

TAB_TRAIN = "Train"
TRAIN_HINT = "Name a folder of pictures on this machine, look at what is in it, and start."
TRAIN_ELSEWHERE = (
    "Training reads this machine's disk and keeps it busy for hours, so it is for the person who sits at it: "
    "start the page there without --share, --host and --auth-file, or use python launch.py train."
)
TRAIN_FOLDER = "Folder of pictures, or a .zip of one"
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
TRAIN_NOT_A_FOLDER = (
    "{folder} is no folder, .zip or .tar.gz that can be read: write the path of one on this machine."
)
TRAIN_NONE_USABLE = "{error}: {reasons}"
TRAIN_TOO_MANY = (
    "There are more than {limit} files below {folder}: look with `python launch.py data check`, or start "
    "without looking."
)
TRAIN_NO_PRESET = "Choose what is trained, and one of its presets."
TRAIN_MODEL_GONE = "{model} cannot be begun from (any more): choose another."
TRAIN_NO_AUTOENCODER = (
    "A new model by the preset {preset} needs an autoencoder: choose one here, or a model to begin from."
)
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
TRAIN_NOT_BEGUN = "Nothing was trained yet; “Go on” starts it."
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
LORA_FAMILY = "It was made for {family}."
LORA_RANK = "Its rank is {rank}."
EMBEDDING = "Embedding"
EMBEDDING_WRITTEN = "Its name is in the prompt, where it takes the room of this many tokens: {count}."

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
