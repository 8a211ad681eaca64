"""Trainings of the tiny autoencoder, as its command runs them."""

from argparse import Namespace

from training import autoencoder as stage1


def settings(folder, **values):
    base = {"data.path": folder, "training.batch_size": 4, "training.sample_every_steps": 1000}
    return [f"{key}={value}" for key, value in (base | values).items()]


def run(folder, run_folder, **values):
    args = Namespace(config="tiny-autoencoder", set=settings(folder, **values), run=run_folder, dry_run=False)
    assert stage1.main(args) == 0
