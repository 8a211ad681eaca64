"""The words of Models."""

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
MODEL_ELSEWHERE = "This model lies on {server}, and this needs one that lies on this machine."
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
    "server": "Drawn on",
}
MODEL_PARTS = {
    "unet": "denoiser {count}",
    "unet_instant": "student {count}",
    "vae": "autoencoder {count}",
    "text_encoder": "text encoder {count}",
    "text_encoder_2": "second text encoder {count}",
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
