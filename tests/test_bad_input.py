"""Bad input to every public function: one clear line that names the argument and the remedy."""

import importlib
import inspect
import pkgutil
import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_vae
from experiments import cli
from pyro_vae import complaints, errors, models, priors, shards
from pyro_vae.analysis import (
    active_units,
    calibration,
    classification,
    comparison,
    completion,
    explained,
    features,
    fidelity,
    interventions,
    judges,
    probes,
    rate_distortion,
    sampling,
    style,
)
from pyro_vae.analysis.judges import Classifier
from pyro_vae.data import conversion, dataset, gathering, images, loading
from pyro_vae.guides import flows, mixture, refined, semi_amortised
from pyro_vae.likelihood import (
    annealing,
    estimate,
    importance,
    intervals,
    psis,
    quadrature,
    traces,
    unlabelled,
)
from pyro_vae.networks import appendix, checks, dense, labelled, labels, precision
from pyro_vae.storage import tensors
from pyro_vae.training import fit, objectives
from pyro_vae.vae import Vae
from tests.autoencoders import build_vae

MODEL, GUIDE = build_vae(2)
OTHER_MODEL, OTHER_GUIDE = build_vae(3)
LABEL_MODEL, LABEL_GUIDE = build_vae(2, num_classes=10)
X = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
NAN = X.where(torch.arange(28) > 0, torch.nan)
Y = torch.arange(4)
Z = np.random.default_rng(0).normal(size=(20, 3))
DIGIT = np.arange(20) % 2
RANDOM = torch.Generator()
LOG_P = np.log(np.full((2, 3), 1 / 3))
SMALL = dataset.Dataset("digits", X, Y, X, Y)


def score(*rows, model=MODEL, guide=GUIDE, **options):
    return importance.log_likelihood(model, guide, *rows, **{"num_samples": 2} | options)


def train(*rows, model=MODEL, guide=GUIDE, **options):
    return fit.fit(model, guide, rows, **{"batch_size": 2, "progress": False} | options)


def leave_out_seed(*words):
    parser = cli.make_parser("")
    cli.reject_options(parser.parse_args(words), "seed")


def plane_and_scale(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, scale[:, None]).to_event(1), obs=x)


def only_whole(n: int) -> int:
    return n


IMAGES = "images must have shape (B, 1, 28, 28), B >= 1, not float32 (28, 28)"
COUNT = "must be a whole number >= 1, not"
WHOLE = "must be a whole number, not"

# The function, what is wrong, the call, and what its message says.
CASES = [
    # the estimator
    ("log_likelihood", "K = 0", lambda: score(X, num_samples=0), f"num_samples {COUNT} 0"),
    ("log_likelihood", "K = 1.5", lambda: score(X, num_samples=1.5), f"num_samples {WHOLE} 1.5"),
    ("log_likelihood", "K true", lambda: score(X, num_samples=True), f"num_samples {WHOLE} True"),
    ("log_likelihood", "chunk", lambda: score(X, chunk_size=0), f"chunk_size {COUNT} 0"),
    ("log_likelihood", "seed", lambda: score(X, seed=-1), "seed must be a whole number from 0"),
    ("log_likelihood", "seed a word", lambda: score(X, seed="a"), "seed must be a whole number"),
    ("log_likelihood", "no image", lambda: score(X[:0]), "x must hold at least one image"),
    ("log_likelihood", "list", lambda: score([1, 2]), "image 0 of x is 1: it must be a tensor, an"),
    ("log_likelihood", "number", lambda: score(7), "x must be images (a tensor, an array, a list"),
    (
        "log_likelihood",
        "text",
        lambda: score("x.npy"),
        "a torch Dataset or a DataLoader), not 'x.npy'",
    ),
    ("log_likelihood", "texts", lambda: score(np.array(["a"])), "x must hold numbers, not <U1 (1"),
    ("log_likelihood", "whole", lambda: score((255 * X).long()), "must be float32 or float64"),
    (
        "log_likelihood",
        "K by its place",
        lambda: score(X, 1000),
        "not 1000: options are given by name, such as num_samples=1000",
    ),
    ("log_likelihood", "0 to 255", lambda: score(255 * X), "divide grey levels by their maximum"),
    ("log_likelihood", "NaN", lambda: score(NAN), "x: 4 of 4 images have NaN; the first is"),
    ("log_likelihood", "shape", lambda: score(X[0, 0, 0]), "x must have shape (B, 1, 28, 28), the"),
    ("log_likelihood", "type", lambda: score(X.double()), "convert one of them"),
    ("log_likelihood", "guide", lambda: score(X, guide=None), "guide must be a Pyro program"),
    ("log_likelihood", "model", lambda: score(X, model=7), "model must be a Pyro program"),
    (
        "log_likelihood",
        "guide of another d",
        lambda: score(X, guide=OTHER_GUIDE),
        "latent 'z' of an image has shape (3,) in the guide and (2,) in the model",
    ),
    (
        "log_likelihood",
        "labels missing",
        lambda: score(X, model=LABEL_MODEL, guide=LABEL_GUIDE),
        "the model takes labels y: give them after the images",
    ),
    (
        "log_likelihood",
        "labels not asked",
        lambda: score(X, Y),
        "the model takes no labels: leave the others out",
    ),
    (
        "fit",
        "labels missing",
        lambda: train(X, model=LABEL_MODEL, guide=LABEL_GUIDE),
        "the model takes labels y: give them after the images, train=(x, y)",
    ),
    (
        "log_likelihood",
        "labels as floats",
        lambda: score(X, Y.float(), model=LABEL_MODEL, guide=LABEL_GUIDE),
        "y must be one int64 label for each of 4 images, not float32 (4,)",
    ),
    (
        "log_likelihood",
        "too few labels",
        lambda: score(X, Y[:3], model=LABEL_MODEL, guide=LABEL_GUIDE),
        "y must have a row for each of 4 images",
    ),
    (
        "log_likelihood",
        "label 10",
        lambda: score(X, Y + 9, model=LABEL_MODEL, guide=LABEL_GUIDE),
        "y must hold labels from 0 to 9",
    ),
    ("log_weights", "K", lambda: importance.log_weights(MODEL, GUIDE, X, num_samples=-1), COUNT),
    (
        "block_log_weights",
        "chunk",
        lambda: importance.block_log_weights(MODEL, GUIDE, [X], 0, 2, 0, 0),
        COUNT,
    ),
    ("image_blocks", "K", lambda: importance.image_blocks(3, 0), COUNT),
    ("image_blocks", "no image", lambda: importance.image_blocks(0, 3), f"images {COUNT} 0"),
    (
        "estimate",
        "a vector",
        lambda: estimate.estimate(torch.zeros(3)),
        "log_w must be floats (K, B)",
    ),
    ("estimate", "an array", lambda: estimate.estimate(np.zeros((3, 2), int)), "not int64 (3, 2)"),
    ("estimate", "no sample", lambda: estimate.estimate(torch.zeros(0, 2)), "K and B >= 1"),
    ("estimate", "NaN", lambda: estimate.estimate(torch.full((3, 2), torch.nan)), "NaN or +inf"),
    ("iwae", "k", lambda: estimate.iwae(torch.zeros(3, 2), 1.5), f"num_samples {WHOLE} 1.5"),
    ("iwae", "weights", lambda: estimate.iwae([0.0], 1), "log_w must be a tensor"),
    ("iwae", "k > K", lambda: estimate.iwae(torch.zeros(3, 2), 4), "num_samples must be 1 to 3"),
    ("pareto_khat", "a vector", lambda: psis.pareto_khat(torch.zeros(3)), "floats (K, B)"),
    ("passes", "whole numbers", lambda: psis.passes(np.zeros(3, int), 9), "khat must be floats"),
    ("khat_threshold", "K = 0", lambda: psis.khat_threshold(0), f"num_samples {COUNT} 0"),
    (
        "sharded_log_likelihood",
        "a file for a folder",
        lambda: shards.sharded_log_likelihood(__file__, MODEL, GUIDE, X, num_samples=2),
        "cannot write",
    ),
    ("Refined", "guide", lambda: refined.Refined(MODEL, None), "guide must be a Pyro program"),
    (
        "Refined",
        "starts",
        lambda: refined.Refined(MODEL, GUIDE, num_starts=0),
        f"num_starts {COUNT} 0",
    ),
    (
        "Refined",
        "text",
        lambda: refined.Refined(MODEL, GUIDE, num_starts="a"),
        "whole number or None, not 'a'",
    ),
    (
        "Refined",
        "newton_steps",
        lambda: refined.Refined(MODEL, GUIDE, newton_steps=-1),
        "newton_steps must be a",
    ),
    (
        "Refined",
        "no rounds",
        lambda: refined.Refined(MODEL, GUIDE, samples_per_round=5),
        "samples_per_round must be a tuple",
    ),
    ("Refined", "precision", lambda: refined.Refined(MODEL, GUIDE, precision="half"), "not 'half'"),
    (
        "Refined",
        "rounds",
        lambda: refined.Refined(MODEL, GUIDE, samples_per_round=(1,)),
        "number >= 2, not 1",
    ),
    (
        "annealed_log_likelihood",
        "chains",
        lambda: annealing.annealed_log_likelihood(MODEL, GUIDE, X, num_chains=0),
        f"num_chains {COUNT} 0",
    ),
    (
        "unlabelled_log_likelihood",
        "labels",
        lambda: unlabelled.unlabelled_log_likelihood(LABEL_MODEL, LABEL_GUIDE, X, labels=3),
        "labels must be a tensor",
    ),
    (
        "complete",
        "draws",
        lambda: completion.complete(MODEL, GUIDE, X, X > 0.5, num_draws=0),
        f"num_draws {COUNT} 0",
    ),
    (
        "calibrate",
        "draws",
        lambda: calibration.calibrate(MODEL, GUIDE, X, num_draws=0),
        f"num_draws {COUNT} 0",
    ),
    ("objective", "name", lambda: objectives.objective("vae"), "name 'vae' is unknown"),
    (
        "bidirectional_bounds",
        "steps",
        lambda: annealing.bidirectional_bounds(MODEL, GUIDE, X, num_steps=0),
        "num_steps",
    ),
    (
        "simulate",
        "images",
        lambda: traces.simulate(MODEL, X[0, 0]),
        "Decoder must give logits (28, 28) for images (28, 28), not float32 (28, 1, 28, 28)",
    ),
    ("integrate_plane", "points", lambda: quadrature.integrate_plane(MODEL, X, points=2), "points"),
    (
        "integrate_plane",
        "d = 3",
        lambda: quadrature.integrate_plane(OTHER_MODEL, X, points=5),
        "two real numbers, to be integrated over",
    ),
    (
        "integrate_plane",
        "two latents",
        lambda: quadrature.integrate_plane(plane_and_scale, torch.zeros(3, 2), points=5),
        "two real numbers, to be integrated over",
    ),
    (
        "model_rate_distortion",
        "beta",
        lambda: rate_distortion.model_rate_distortion(MODEL, GUIDE, X, beta=0),
        "beta must be a number from 1e-09",
    ),
    (
        "guide_rate_distortion",
        "K",
        lambda: rate_distortion.guide_rate_distortion(MODEL, GUIDE, X, num_samples=0),
        COUNT,
    ),
    # autoencoders
    ("Vae", "d = 0", lambda: build_vae(0), f"latent_dim {COUNT} 0"),
    ("Vae", "d = 2.0", lambda: build_vae(2.0), f"latent_dim {WHOLE} 2.0"),
    (
        "Vae",
        "num_classes",
        lambda: build_vae(2, num_classes=-1),
        "classes must be a whole number >= 0",
    ),
    ("Vae", "precision", lambda: build_vae(2, "half"), "'auto', 'float32' or 'bfloat16'"),
    (
        "Vae",
        "architecture",
        lambda: build_vae(2, architecture="deep"),
        "choose from appendix",
    ),
    ("Vae", "guide", lambda: build_vae(2, guide="best"), "choose from mean_field"),
    ("Vae", "prior", lambda: build_vae(2, prior="flat"), "choose from standard"),
    ("resolve_precision", "unknown", lambda: precision.resolve_precision("int8"), "not 'int8'"),
    ("Decoder", "z", lambda: appendix.Decoder(2)(torch.zeros(3, 5)), "(*, 2), not (3, 5)"),
    ("Decoder", "int z", lambda: appendix.Decoder(2)(Y[:2]), "z must be a float tensor (*, 2)"),
    ("Model", "decoder", lambda: models.Model(None), "decoder must be of class Module"),
    ("Model", "no d", lambda: models.Model(nn.Linear(2, 3)), "decoder must have a latent_dim"),
    (
        "Model",
        "pixels",
        lambda: models.Model(MODEL.decoder, 3),
        "pixel_distribution must be a function",
    ),
    (
        "split_appendix",
        "ours",
        lambda: appendix.split_appendix(MODEL.decoder.state_dict()),
        "names f.f.* and g.*, not of ['f.0.weight'",
    ),
    ("Vae", "priors", lambda: build_vae(2, prior=[]), "prior must be a text, not list()"),
    ("DenseDecoder", "z", lambda: dense.DenseDecoder(2)(torch.zeros(5)), "(*, 2), not (5,)"),
    ("LabelDecoder", "z", lambda: labelled.LabelDecoder(2)(torch.zeros(3, 1), Y[:3]), "(*, 2)"),
    ("LabelDecoder", "no labels", lambda: labelled.LabelDecoder(2)(torch.zeros(3, 2)), "labels y"),
    ("Encoder", "x", lambda: appendix.Encoder(4)(X[0, 0]), IMAGES),
    ("Encoder", "outputs", lambda: appendix.Encoder(0), f"num_params {COUNT} 0"),
    ("DenseEncoder", "x", lambda: dense.DenseEncoder(4)(NAN), "without NaN"),
    ("LabelEncoder", "no labels", lambda: labelled.LabelEncoder(4)(X), "labels y of 10 classes"),
    ("LabelLinear", "inputs", lambda: labels.LabelLinear(0, 3, 2), f"inputs {COUNT} 0"),
    ("check_pixels", "type", lambda: checks.check_pixels(X, X.double()), "convert one of them"),
    ("check_latents", "d", lambda: checks.check_latents(torch.zeros(1, 2), 3, X), "(*, 3)"),
    (
        "check_latents",
        "type",
        lambda: checks.check_latents(torch.zeros(1, 3).double(), 3, X),
        "convert one of them",
    ),
    ("check_labels", "count", lambda: checks.check_labels("it", 3, 2), "it takes labels y of 3"),
    (
        "concat_one_hot",
        "labels",
        lambda: labels.concat_one_hot(torch.zeros(4, 2), 3, Y),
        "from 0 to 2",
    ),
    ("LearnedPrior", "d", lambda: priors.LearnedPrior(0), f"latent_dim {COUNT} 0"),
    ("LearnedPrior", "hidden", lambda: priors.LearnedPrior(2, hidden=0), f"hidden {COUNT} 0"),
    (
        "Mixture",
        "components",
        lambda: mixture.Mixture(MODEL, components=0),
        f"components {COUNT} 0",
    ),
    ("Spline", "layers", lambda: flows.Spline(MODEL, layers=0), f"layers {COUNT} 0"),
    ("Spline", "d = 1", lambda: flows.Spline(build_vae(1)[0]), "latent_dim >= 2"),
    (
        "SemiAmortised",
        "steps",
        lambda: semi_amortised.SemiAmortised(MODEL, steps=0),
        f"steps {COUNT} 0",
    ),
    (
        "maximise_elbo",
        "steps",
        lambda: semi_amortised.maximise_elbo(MODEL, GUIDE, torch.zeros(4, 4), [X], 0),
        "steps",
    ),
    (
        "Vae",
        "missing",
        lambda: Vae.load("typo.pt"),
        "give its full path, or name another",
    ),
    (
        "Vae",
        "None",
        lambda: Vae.load(None),
        "path must be a text or a path, not None",
    ),
    ("fit", "state", lambda: train(X, state_path=3), "state_path must be a text or a path"),
    ("Vae", "a folder", lambda: Vae.load("."), "is not a file"),
    ("Vae", "a text", lambda: Vae.load(__file__), "is not a checkpoint"),
    (
        "load_tensors",
        "missing",
        lambda: tensors.load_tensors("typo.pt", "x", set()),
        "not a file",
    ),
    (
        "load_weights",
        "another's",
        lambda: tensors.load_weights(MODEL, OTHER_MODEL.state_dict(), "some.pt"),
        "some.pt",
    ),
    # training
    ("fit", "nothing", lambda: train(), "at least one image"),
    ("fit", "no image", lambda: train(X[:0]), "at least one image"),
    (
        "fit",
        "no tuple",
        lambda: fit.fit(MODEL, GUIDE, 3),
        "train must be images (a tensor, an array, a torch Dataset or a DataLoader), (images,",
    ),
    ("fit", "lengths", lambda: train(X, Y[:3]), "y must have a row for each of 4 images"),
    ("fit", "0 to 255", lambda: train(255 * X), "divide grey levels by their maximum"),
    ("fit", "epochs", lambda: train(X, epochs=-1), "epochs must be a whole number >= 0"),
    ("fit", "batch", lambda: train(X, batch_size=0), f"batch_size {COUNT} 0"),
    ("fit", "rate", lambda: train(X, learning_rate=0), "learning_rate must be a number from"),
    ("fit", "rate a word", lambda: train(X, learning_rate="fast"), "must be a number, not 'fast'"),
    ("fit", "seed", lambda: train(X, seed=-1), "seed must be a whole number from 0"),
    ("fit", "shards", lambda: train(X, batch_parts=3), "images of the smallest batch, 2, not 3"),
    ("fit", "guide", lambda: train(X, guide=None), "guide must be a Pyro program"),
    (
        "check_training_options",
        "rate",
        lambda: fit.check_training_options(1, 1, np.nan, 0),
        "rate",
    ),
    (
        "check_batch_parts",
        "of 101 images",
        lambda: fit.check_batch_parts(2, 101, 100),
        "smallest batch, 1",
    ),
    # data
    (
        "load_dataset",
        "name",
        lambda: loading.load_dataset("cifar"),
        "'cifar' is unknown: choose from mnist, digits",
    ),
    (
        "check_images",
        "a list",
        lambda: images.check_images([[0.0]]),
        "images must be a tensor, not list",
    ),
    ("check_images", "shape", lambda: images.check_images(X[0, 0]), IMAGES),
    ("check_image_rows", "whole", lambda: images.check_image_rows(Y), "images must be float32 or"),
    (
        "check_image_rows",
        "no row",
        lambda: images.check_image_rows(torch.tensor(0.5)),
        "images must have shape (B, ...), B >= 1, not float32 ()",
    ),
    ("check_grey_levels", "NaN", lambda: images.check_grey_levels(NAN), "without NaN, not in [nan"),
    (
        "check_finite",
        "NaN",
        lambda: images.check_finite(NAN),
        "x: 4 of 4 images have NaN; the first is image 0",
    ),
    ("check_whole", "255", lambda: images.check_whole(MODEL, 255 * X), "pixels outside [0, 1]"),
    ("check_grey_levels", "255", lambda: images.check_grey_levels(255 * X), "divide grey levels"),
    (
        "fit",
        "a list of images for a program of one's own",
        lambda: fit.fit(lambda x: None, lambda x: None, [*X], progress=False),
        "leave these out, as in train=(x,), or give a list of images as train=([...],)",
    ),
    ("fit", "a data set", lambda: fit.fit(MODEL, GUIDE, SMALL), "train is a whole data set, to tr"),
    ("fit", "in a group", lambda: train(SMALL), "give data.train_images (and data.train_labels)"),
    ("log_likelihood", "a data set", lambda: score(SMALL), "x is a whole data set, to train and"),
    ("as_images", "a number", lambda: conversion.as_images(3), "source must be images (a tensor"),
    ("as_batch", "no image", lambda: conversion.as_batch(MODEL, []), "x must hold at least one"),
    ("as_labels", "texts", lambda: conversion.as_labels(["a"], X), "label 0 is 'a': it must be a"),
    (
        "check_batch",
        "NaN",
        lambda: conversion.check_batch(MODEL, GUIDE, NAN),
        "x: 4 of 4 images ha",
    ),
    ("columns", "None", lambda: gathering.columns(None, "x"), "x must be a tensor, an array, a"),
    ("from_numpy", "texts", lambda: gathering.from_numpy(np.array("a"), "x"), "x must hold numb"),
    ("piece", "None", lambda: gathering.piece(None, "image 3", label=False), "image 3 is None"),
    # drawing
    ("guide_samples", "K", lambda: sampling.guide_samples(GUIDE, X, num_samples=0), COUNT),
    ("guide_samples", "x", lambda: sampling.guide_samples(GUIDE, 3, num_samples=1), "x must be a"),
    ("decode", "z", lambda: sampling.decode(MODEL, torch.zeros(3, 5)), "(*, 2), not (3, 5)"),
    ("sample", "n", lambda: sampling.sample(MODEL, 0), COUNT),
    ("sample", "no image", lambda: sampling.sample(lambda x: None, 2), "give like=x[:1]"),
    ("decode", "no image", lambda: sampling.decode(lambda x: None, X), "give like=x[:1]"),
    ("decode", "no latent", lambda: sampling.decode(MODEL, torch.zeros(0, 2)), "at least one"),
    ("decode", "labels", lambda: sampling.decode(LABEL_MODEL, torch.zeros(3, 2), Y), "each latent"),
    (
        "decode_style",
        "labels",
        lambda: sampling.decode_style(LABEL_MODEL, torch.zeros(3, 2)),
        "labels",
    ),
    ("encode_style", "K", lambda: sampling.encode_style(MODEL, GUIDE, X, num_samples=0), COUNT),
    ("posterior_moments", "x", lambda: sampling.posterior_moments(GUIDE, X[0, 0]), IMAGES),
    ("pixel_samples", "means", lambda: sampling.pixel_samples(3 * X), "in [0, 1] without NaN"),
    (
        "posterior_samples",
        "draws",
        lambda: sampling.posterior_samples(MODEL, GUIDE, X, num_draws=0),
        COUNT,
    ),
    ("posterior_mean", "K", lambda: sampling.posterior_mean(MODEL, GUIDE, X, num_samples=0), COUNT),
    # classes
    (
        "class_log_likelihoods",
        "num_classes",
        lambda: classification.class_log_likelihoods(LABEL_MODEL, LABEL_GUIDE, X, num_classes=0),
        COUNT,
    ),
    (
        "label_probabilities",
        "shape",
        lambda: classification.label_probabilities(LOG_P[0]),
        "(B, C)",
    ),
    (
        "label_probabilities",
        "prior",
        lambda: classification.label_probabilities(LOG_P, np.array([0, 1, 1])),
        "3 shares > 0",
    ),
    (
        "label_mutual_information",
        "label",
        lambda: classification.label_mutual_information(LOG_P, np.array([0, 3])),
        "from 0 to 2",
    ),
    (
        "reliability",
        "labels",
        lambda: classification.reliability(np.exp(LOG_P), np.array([0]), np.array([0, 1])),
        "each of 2 rows",
    ),
    ("train_classifier", "epochs", lambda: judges.train_classifier(SMALL, epochs=0), COUNT),
    (
        "train_classifier",
        "rate",
        lambda: judges.train_classifier(SMALL, learning_rate=-1),
        "rate",
    ),
    (
        "class_probabilities",
        "x",
        lambda: judges.class_probabilities(Classifier(), X[0, 0]),
        IMAGES,
    ),
    ("class_features", "x", lambda: judges.class_features(Classifier(), NAN), "without NaN"),
    ("knn_judge", "k", lambda: judges.knn_judge(SMALL, 0), COUNT),
    (
        "linear_probe",
        "lengths",
        lambda: probes.linear_probe(Z, DIGIT[:3], Z, DIGIT),
        "for each of 20 rows",
    ),
    (
        "linear_probe",
        "one label",
        lambda: probes.linear_probe(Z, 0 * DIGIT, Z, DIGIT),
        "two labels",
    ),
    (
        "tree_probe",
        "new label",
        lambda: probes.tree_probe(Z, DIGIT, Z, DIGIT + 5),
        "every label of other_y",
    ),
    ("neighbour_probe", "k", lambda: probes.neighbour_probe(Z, DIGIT, Z, DIGIT, 0), COUNT),
    (
        "neighbour_probe",
        "columns",
        lambda: probes.neighbour_probe(Z, DIGIT, Z[:, :2], DIGIT),
        "3 columns",
    ),
    # measures
    ("evaluate", "K", lambda: comparison.evaluate(MODEL, GUIDE, X, num_samples=99), ">= 100"),
    ("compare", "no guide", lambda: comparison.compare(MODEL, {}, X), "{name: guide}"),
    (
        "held_out_r2",
        "lengths",
        lambda: explained.held_out_r2({"a": Z[:3, 0]}, Z[:, 0], DIGIT > 0),
        "must be (20,)",
    ),
    (
        "held_out_r2",
        "held out alike",
        lambda: explained.held_out_r2({"a": Z[:, 0]}, np.where(DIGIT > 0, 1.0, Z[:, 0]), DIGIT > 0),
        "target must not be the same",
    ),
    (
        "held_out_r2",
        "256 kinds",
        lambda: explained.held_out_r2(
            {"a": np.arange(300.0)}, np.arange(300.0), np.arange(300) < 20, ("a",)
        ),
        "255 values",
    ),
    (
        "evaluate",
        "other log p",
        lambda: comparison.evaluate(
            MODEL, GUIDE, X, log_p=estimate.estimate(torch.zeros(9, 1)), num_samples=100
        ),
        "log_p must be of the 4 images",
    ),
    (
        "tree_probe",
        "few latents",
        lambda: probes.tree_probe(Z[:4], DIGIT[:4], Z, DIGIT),
        "ten times as many",
    ),
    (
        "active_units",
        "NaN",
        lambda: active_units.active_units(torch.full((4, 2), torch.nan), torch.ones(4, 2)),
        "finite floats",
    ),
    (
        "mean_interval",
        "both infinities",
        lambda: intervals.mean_interval(np.array([-np.inf, np.inf])),
        "both infinities",
    ),
    (
        "frechet_distance",
        "huge",
        lambda: fidelity.frechet_distance(1e300 * Z, Z),
        "1e100 at most",
    ),
    ("Vae", "long name", lambda: Vae.load("a" * 300), "is not a file"),
    (
        "save_tensors",
        "NUL",
        lambda: tensors.save_tensors("a\0b", {}),
        "path must name a file",
    ),
    (
        "held_out_r2",
        "none held out",
        lambda: explained.held_out_r2({"a": Z[:, 0]}, Z[:, 0], DIGIT > 1),
        "held_out must be",
    ),
    *(
        (name, "x", lambda name=name: getattr(features, name)(X[0, 0]), IMAGES)
        for name in (
            "ink",
            "entropy_floor",
            "grey_pixels",
            "stroke_width",
            "slant",
            "height",
            "width",
            "holes",
            "off_centre",
            "centre",
        )
    ),
    ("nearest_distance", "none", lambda: features.nearest_distance(X, X[:0]), "B >= 1"),
    (
        "frechet_distance",
        "one image",
        lambda: fidelity.frechet_distance(Z[:1], Z),
        "at least 2 images",
    ),
    (
        "precision_recall",
        "k",
        lambda: fidelity.precision_recall(Z, Z[:3]),
        "below the number of images",
    ),
    (
        "density_coverage",
        "k",
        lambda: fidelity.density_coverage(Z[:3], Z),
        "below the number of images",
    ),
    (
        "standard_error_of_mean",
        "lengths",
        lambda: intervals.standard_error_of_mean(np.ones(2), np.ones(3)),
        "other_se must be as long as se, 2, not 3",
    ),
    (
        "standard_error_of_mean",
        "lengths the other way round",
        lambda: intervals.standard_error_of_mean(np.ones(3), np.ones(2)),
        "other_se must be as long as se, 3, not 2",
    ),
    (
        "standard_error_of_mean",
        "empty",
        lambda: intervals.standard_error_of_mean(np.ones(0)),
        "se must be numbers (B,), B >= 1",
    ),
    (
        "welch_interval",
        "empty",
        lambda: intervals.welch_interval(np.ones(2), np.ones(0)),
        "b must be numbers (N,), N >= 1",
    ),
    (
        "proportion_interval",
        "shares",
        lambda: intervals.proportion_interval(np.array([0.5])),
        "right must be (B,) booleans",
    ),
    (
        "proportion_interval",
        "a table",
        lambda: intervals.proportion_interval(np.ones((2, 2), bool)),
        "right must be (B,) booleans",
    ),
    (
        "proportion_interval",
        "one alone",
        lambda: intervals.proportion_interval(np.array(True)),
        "right must be (B,) booleans",
    ),
    (
        "mcnemar",
        "lengths",
        lambda: intervals.mcnemar(np.ones(2, bool), np.ones(3, bool)),
        "after must be as long as before",
    ),
    (
        "mcnemar",
        "lengths the other way round",
        lambda: intervals.mcnemar(np.ones(3, bool), np.ones(2, bool)),
        "after must be as long as before",
    ),
    (
        "mean_interval",
        "empty",
        lambda: intervals.mean_interval(np.array([])),
        "values must be numbers (B,), B >= 1",
    ),
    (
        "shared_correlation",
        "a row",
        lambda: style.shared_correlation(Z[0]),
        "values must be numbers (N",
    ),
    ("shared_interval", "resamples", lambda: style.shared_interval(Z, resamples=0), COUNT),
    (
        "style_correlation",
        "a row",
        lambda: style.style_correlation(Z[0], Z[0], Z[0]),
        "drawn must be numbers (N, d)",
    ),
    # changes to images
    (
        "thicken",
        "by",
        lambda: interventions.thicken(X, np.nan),
        "by must be a number from -14 to 14",
    ),
    ("shear", "by", lambda: interventions.shear(X, 100), "by must be a number"),
    ("deslant", "x", lambda: interventions.deslant(X[0, 0]), IMAGES),
    ("resize", "factor", lambda: interventions.resize(X, 0), "factor must be a number from 0.01"),
    ("blur", "sigma", lambda: interventions.blur(X, -1), "sigma must be a number from 0"),
    ("binarise", "x", lambda: interventions.binarise(255 * X), "divide grey levels"),
    (
        "shift",
        "down",
        lambda: interventions.shift(X, 29, 0),
        "down must be a whole number from -28",
    ),
    ("shift", "right", lambda: interventions.shift(X, 0, 0.5), "right must be a whole number"),
    ("shuffle_pixels", "seed", lambda: interventions.shuffle_pixels(X, -1), "seed must be a whole"),
    (
        "gaussian_noise",
        "level",
        lambda: interventions.gaussian_noise(X, -1, RANDOM),
        "level must be",
    ),
    (
        "salt_and_pepper",
        "level",
        lambda: interventions.salt_and_pepper(X, 2, RANDOM),
        "from 0 to 1",
    ),
    # checks themselves
    (
        "checked",
        "a text",
        lambda: errors.checked(only_whole)("a"),
        "n must be a whole number, not 'a'",
    ),
    (
        "one_line_refusals",
        "a NaN",
        lambda: complaints.one_line_refusals(torch.distributions.Normal)(
            torch.tensor(torch.nan), 1
        ),
        "model or guide: Expected parameter loc",
    ),
    ("check_seed", "-1", lambda: errors.check_seed(-1), "from 0 to 2**32 - 1, not -1"),
    ("check_choice", "a number", lambda: errors.check_choice(["a", "b"], of=1), "from a, b"),
    ("check_counts", "0", lambda: errors.check_counts(count=0), f"count {COUNT} 0"),
    ("check_counts", "true", lambda: errors.check_counts(count=True), f"count {COUNT} True"),
    ("check_counts", "NumPy's 0", lambda: errors.check_counts(count=np.int64(0)), COUNT),
    ("check_number", "true", lambda: errors.check_number("level", True, 0), "not True"),
    (
        "check_number",
        "inf",
        lambda: errors.check_number("level", np.inf, 0),
        "level must be a number",
    ),
    ("check_rows", "none", lambda: errors.check_rows(), "at least one image"),
    (
        "check_numbers",
        "texts",
        lambda: errors.check_numbers("N", a=np.array(["b"])),
        "a must be num",
    ),
    (
        "check_classes",
        "beyond",
        lambda: errors.check_classes(20, 1, y=DIGIT),
        "y must be one whole",
    ),
    ("check_table", "a vector", lambda: errors.check_table(z=Z[0]), "z must be numbers (N, d)"),
    ("check_table", "NaN", lambda: errors.check_table(z=Z * np.nan), "z must hold finite numbers"),
    ("check_log_weights", "a vector", lambda: psis.check_log_weights(torch.zeros(3)), "(K, B)"),
    (
        "check_at_least",
        "2 of 3",
        lambda: cli.check_at_least("--n", 2, 3),
        "--n must be >= 3, not 2",
    ),
    (
        "reject_options",
        "given",
        lambda: leave_out_seed("--seed", "0"),
        "--seed: this script sets it",
    ),
    ("check_device", "unknown", lambda: cli.check_device("tpu"), "use cpu, cuda, cuda:N or mps"),
]

# Held elsewhere, or with nothing to get wrong that is not the same as above.
ELSEWHERE = {
    # several processes, and what ArviZ takes: test_parallel, test_watch, test_estimate
    *("lost_message", "pointwise", "take_first", "shared_work", "by_first"),
    *("watch", "waiting", "keep"),
    # files and options: test_files, test_faults, test_script
    *("atomic_write", "replace", "lock_file", "lock_folder", "check_folder"),
    *("data_root", "load_digits", "make_parser", "warn_caller"),
    # the data sets and folders of images: tests/data
    *("load_images", "load_member", "missing_files", "raw_folder", "dataset_name"),
    *("unit_interval", "of_different_classes", "random_positions", "hold_out"),
    # files that are kept, images that would broadcast: test_checkpoints, test_refusals
    *("check_replaceable", "check_observed"),
    # words and colours of figures: tests/experiments/test_data_sets
    *("short_name", "name_of_image", "class_colours"),
    *(
        "run",
        "announce_and_load",
        "training_settings",
        "results_root",
        "folder_name",
        "load_or_train",
        "own_checkpoint",
        "checkpoint_there",
        "trained_classifier",
        "provenance",
    ),
    # programs of the user's own: test_own_programs, test_vae
    *(
        "interpolate",
        "shared_lead",
        "device_of",
        "rows_like",
        "latent_sites",
        "mean_images",
        "module_of",
        "name_of",
    ),
    "check_programs",
    # what a Pyro program places wrongly: test_importance
    *("draw", "only", "log_joint", "log_joint_in_chunks", "sample_sites", "is_random", "innermost"),
    *("batches", "guide_sites", "set_up", "sites_at", "sites_of_samples", "weighted_draws"),
    *("images_at_a_time", "scored_together", "resampled"),
    # what makes a program unfit, or its latents: test_traces, test_coordinates
    *("check_densities", "check_names", "check_log_prob", "is_point", "is_discrete"),
    *("check_shape", "take_samples", "weights_stamp"),
    *("coordinates_of", "from_latents", "to_latents"),
    # what a mask asks of a model: test_masking
    *("masked", "masked_guide", "check_unseen"),
    # a program from outside: test_programs
    *("modules_of", "own_module", "move", "has_own_numbers", "evaluating", "in_evaluation_mode"),
    *("nothing_registered", "forget", "random_state_kept", "seed_everything"),
    # torch's global settings and other devices: test_torch_settings, test_mps
    *("unrounded", "autoregressive", "to_float64_device", "return_to"),
    # a training's parts: test_objective, test_groups, test_rehearsal, test_isolation
    *("as_trained", "weight_at", "check_kl_weight", "rehearse", "isolated", "fit_options"),
    *("groups_of", "epoch_batches", "take", "transform_seed"),
    # which labels a program takes: test_programs; bars: test_progress
    *("labels_of", "blocks_of_weights", "progress_bar", "part", "is_watched"),
    # groups of processes: test_parallel, test_distributed
    *(
        "join_group",
        "leave_group",
        "rank",
        "world_size",
        "parts_of_this_rank",
        "barrier",
        "all_reduce_sum",
        "check_alike",
        "derive_seed",
        "set_seed",
    ),
    # parts of others, which check for them
    *(
        "fit_to_samples",
        "best_in_family",
        "log_weights_at",
        "best_log_weights",
        "table",
        "pairs",
        "as_text",
    ),
    *(
        "curvature",
        "newton_ascent",
        "laplace",
        *("made_positive", "gauss_newton", "derivatives_of", "pixels_of", "starts"),
        *("score_matching", "adaptive_importance_sampling", "drawn", "pooled"),
        *("pieces", "estimate_by", "jacobian", "cosine", "one_cycle", "exact", "refined_for"),
        *(
            "to_accuracy",
            "block_to_accuracy",
            "most_draws",
            "draws_needed",
            "sum_of",
            "sum_over_labels",
        ),
        "adam_ascent",
        "channels_last",
        "flat_linear",
        "last_layers",
        "in_blocks",
        "softplus",
    ),
    *(
        "without_inference_mode",
        "add_one_hot",
        "select_by_label",
        "join_appendix",
        "fingerprint",
        *("keep_memory", "memory_kept"),  # test_memory
        "all_finite",
        "check_grid",
        "any_process",
        "interrupted",
        "settings_of",
        *("name_of_function", "differences", "moves"),  # of settings: test_places
        "shuffled",
        "describe",
        "refused_by_distribution",
        "refuse_jit",  # by a trace: test_traced
    ),
    *("write_page", "described", "layers_of"),  # explorer/test_page
    *("show_image", "image_rows", "save_figure", "on_cpu", "seeded", "pack", "blaming"),
    # by device: test_gpu
    *("default_chunk_size", "autocast", "without_tf32"),
}


@pytest.mark.parametrize(
    ("call", "message"),
    [pytest.param(*case[2:], id=f"{case[0]}: {case[1]}") for case in CASES],
)
def test_bad_input_is_one_line_that_names_it(call, message):
    with pytest.raises(errors.InputError, match=re.escape(message)) as found:
        call()
    assert len(str(found.value).splitlines()) == 1


def test_every_public_function_is_in_the_table():
    public = set()
    rooms = pkgutil.walk_packages(pyro_vae.__path__, "pyro_vae.")
    shared = (f"experiments.{name}" for name in ("cli", "trained", "record"))
    for module in (*(room.name for room in rooms), *shared):
        for name, thing in vars(importlib.import_module(module)).items():
            own = getattr(thing, "__module__", "") == module
            if own and inspect.isfunction(thing) and not name.startswith("_"):
                public.add(name)
    covered = {case[0] for case in CASES}
    assert public - covered == ELSEWHERE & public
    assert public >= ELSEWHERE
    assert not covered & ELSEWHERE
