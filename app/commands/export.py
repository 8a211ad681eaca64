"""`launch.py export`: a model as the single file that other programs open, or as a model folder."""

import argparse
import sys

from models.errors import RequestError
from models.folder import model_path
from models.folder_check import check_model_folder


def main(args: argparse.Namespace) -> int:
    """Write the model, and print where; ModelError for one that no single file can hold."""
    source, target = model_path(args.model), args.output
    check_model_folder(source)
    if target.exists():
        raise RequestError(f"{target} is there already; name a file or folder that is not.")
    from models.folder import load_model, save_model
    from models.single_file.checkpoint import SUFFIX
    from models.single_file.vae import with_vae
    from models.single_file.write import write_single_file

    model = load_model(source)
    if args.vae is not None:
        model = with_vae(model, args.vae)
    if target.suffix.lower() == SUFFIX:
        write_single_file(model, target)
        if model.instant is not None:
            print("The student stays behind: a single file holds one denoiser.", file=sys.stderr)
    else:
        save_model(
            target,
            autoencoder=model.autoencoder,
            denoiser=model.denoiser,
            text_encoder=model.text_encoder,
            defaults=model.defaults,
            preview=model.preview,
            image_condition=model.image_condition,
            instant=model.instant,
        )
    print(target)
    return 0
