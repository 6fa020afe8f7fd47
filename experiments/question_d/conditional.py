"""The autoencoder of question (d), for the scripts that show it."""

import argparse

from experiments.question_d import DIM, TRAINING
from experiments.trained import Spec, load_or_train
from pyro_vae.data.dataset import Dataset
from pyro_vae.vae import Vae


def conditional(args: argparse.Namespace, data: Dataset) -> Vae:
    """Return the autoencoder that takes labels: one that is there, or one trained now."""
    spec = Spec(DIM, "per_label", len(data.classes), prior="learned")
    return load_or_train(args, data, spec, "conditional", **TRAINING)
