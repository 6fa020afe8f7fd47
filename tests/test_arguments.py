"""Every argument of every function a user calls, given wrong in every way that fits in a table.

Each function is called rightly first, and then with one argument at a time replaced. A value that
is not what the argument's annotation says must be an InputError that names it; one that is may be
right or wrong for what it is, so that the call may succeed or be an InputError, and nothing else.
"""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from numbers import Integral, Real
from operator import attrgetter
from pathlib import Path
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torchvision.utils import save_image

import pyro_vae
from pyro_vae.analysis.judges import Classifier
from pyro_vae.data import dataset
from pyro_vae.errors import InputError, checked
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import estimate
from pyro_vae.models import GreyBernoulli
from pyro_vae.training.stopping import TrainingError
from pyro_vae.vae import Vae
from tests.autoencoders import build_vae, save_vae

MODEL, GUIDE = build_vae(2, architecture="dense")
X = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
Y = torch.arange(4)
PRIOR = PriorGuide(MODEL)
VAE = Vae.build(2, architecture="dense", precision="float32")
LABEL_MODEL, LABEL_GUIDE = build_vae(2, architecture="dense", num_classes=10)
CLASSIFIER = Classifier().eval()
SMALL = dataset.Dataset("digits", X, Y, X, Y)
LOG_W = torch.zeros(30, 4)
LATENTS = torch.zeros(3, 2)
NUMBERS = torch.zeros(4, 4)
TABLE = np.random.default_rng(0).normal(size=(20, 3))
DIGIT = np.arange(20) % 2
LOG_P = np.log(np.full((4, 3), 1 / 3))
STYLES = np.random.default_rng(0).normal(size=(8, 3))


def of(**arguments):
    return {"model": MODEL, "guide": GUIDE, "x": X} | arguments


# A right call of each function, as its arguments by name; FOLDER stands for an empty folder.
FOLDER = Path("FOLDER")
RIGHT = {
    "annealing.annealed_log_likelihood": of(num_chains=2, num_steps=2, seed=0, progress=None),
    "annealing.bidirectional_bounds": {
        "model": MODEL, "guide": GUIDE, "images": X, "num_chains": 2, "num_steps": 2, "seed": 0
    },
    "traces.simulate": {"model": MODEL, "images": X},
    "tensors.save_tensors": {"path": FOLDER / "some.pt", "content": {"w": X}},
    "tensors.load_tensors": {
        "path": FOLDER / "vae.pt", "kind": "a checkpoint", "keys": {"config"}, "remedy": "no"
    },
    "tensors.load_weights": {
        "module": GUIDE, "state": GUIDE.state_dict(), "path": "some.pt"
    },
    "vae.Vae.save": {"self": VAE, "path": FOLDER / "other.pt"},
    "vae.Vae.load": {"path": FOLDER / "vae.pt", "model": None, "guide": None, "device": "cpu"},
    "vae.Vae.build": {
        "latent_dim": 2,
        "precision": "float32",
        "architecture": "dense",
        "num_classes": 0,
        "guide": "mean_field",
        "prior": "standard",
    },
    "vae.Vae.log_likelihood": {
        "self": VAE, "x": X, "num_samples": 2, "se": None, "seed": 0, "mask": None, "progress": None
    },
    "vae.Vae.to_html": {
        "self": VAE, "path": FOLDER / "page.html", "images": X, "labels": None,
        "classes": ("0", "1"), "progress": False,
    },
    "page.write_page": {
        "autoencoders": {"a": (MODEL, GUIDE)}, "path": FOLDER / "page.html", "images": X,
        "labels": None, "classes": ("0", "1"), "progress": False,
    },
    "vae.Vae.reconstruct": {"self": VAE, "x": X, "num_samples": 2, "seed": 0},
    "vae.Vae.decode": {"self": VAE, "z": LATENTS},
    "vae.Vae.sample": {"self": VAE, "n": 2, "seed": 0, "pixels": True},
    "vae.Vae.interpolate": {"self": VAE, "x0": X[:2], "x1": X[2:], "steps": 3},
    "classification.class_log_likelihoods": {
        "model": LABEL_MODEL, "guide": LABEL_GUIDE, "x": X,
        "num_classes": 10, "num_samples": 2, "seed": 0, "progress": None,
    },
    "classification.label_probabilities": {"log_p": LOG_P, "prior": np.ones(3)},
    "classification.label_mutual_information": {"log_p": LOG_P, "labels": np.array([0, 1, 2, 0])},
    "classification.reliability": {
        "p": np.exp(LOG_P), "labels": np.array([0, 1, 2, 0]), "edges": np.array([0.0, 0.5, 1.0])
    },
    "judges.train_classifier": {
        "data": SMALL, "epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "seed": 0,
        "progress": False,
    },
    "judges.class_probabilities": {"classifier": CLASSIFIER, "x": X},
    "judges.class_features": {"classifier": CLASSIFIER, "x": X},
    "comparison.evaluate": {
        "model": MODEL, "guide": PRIOR, "x": X[:1], "log_p": estimate(LOG_W[:, :1]),
        "num_samples": 100, "gap_images": 1, "seed": 0, "progress": None,
    },
    "completion.complete": of(
        guide=Refined(MODEL, GUIDE, num_starts=1, newton_steps=1, samples_per_round=(10,)),
        x=X[:1], mask=torch.ones(28, 28, dtype=torch.bool), num_draws=2, num_samples=10,
        pixels=True, seed=0, progress=None,
    ),
    "comparison.compare": {
        "model": MODEL, "guides": {"prior": PRIOR}, "x": X[:1], "progress": None
    },
    "conversion.as_images": {"source": X},
    "loading.load_dataset": {"name": "digits", "root": None},
    "folder.load_images": {
        "folder": FOLDER / "pictures", "test_share": 0.2, "seed": 0, "box": 20,
    },
    "mnist_family.data_root": {"root": "data"},
    "images.check_images": {"images": X},
    "images.check_image_rows": {"images": X},
    "explained.held_out_r2": {
        "features": {"a": TABLE[:, 0]}, "target": TABLE[:, 1], "held_out": DIGIT > 0,
        "categorical": ("a",), "seed": 0,
    },
    **{
        f"features.{name}": {"x": X}
        for name in ("ink", "entropy_floor", "grey_pixels", "stroke_width", "slant", "height")
    },
    **{f"features.{name}": {"x": X} for name in ("width", "holes", "off_centre", "centre")},
    "features.nearest_distance": {"x": X, "references": X},
    "fidelity.frechet_distance": {"real": TABLE, "generated": TABLE},
    "fidelity.precision_recall": {"real": TABLE, "generated": TABLE, "neighbours": 3},
    "fidelity.density_coverage": {"real": TABLE, "generated": TABLE, "neighbours": 3},
    "semi_amortised.maximise_elbo": {
        "model": MODEL, "guide": GUIDE, "params": NUMBERS, "batch": [X], "steps": 1, "draws": 1,
        "learning_rate": 0.1,
    },
    "accuracy.log_likelihood": of(
        num_samples=2, se=None, seed=0, mask=None, chunk_size=10, progress=None
    ),
    "importance.log_likelihood": of(num_samples=2, seed=0, mask=None, chunk_size=10, progress=None),
    "importance.log_weights": of(num_samples=2, seed=0, mask=None, chunk_size=10, progress=None),
    "unlabelled.unlabelled_log_likelihood": {
        "model": LABEL_MODEL, "guide": LABEL_GUIDE, "x": X, "labels": torch.arange(2),
        "prior": None, "num_samples": 2, "seed": 0, "mask": None, "progress": None,
    },
    "importance.block_log_weights": {
        "model": MODEL, "guide": GUIDE, "batch": [X], "start": 0, "num_samples": 2, "seed": 0,
        "chunk_size": 10,
    },
    "estimate.estimate": {"log_w": LOG_W},
    "estimate.iwae": {"log_w": LOG_W, "num_samples": 3},
    "importance.image_blocks": {"images": 3, "num_samples": 4},
    "intervals.mean_interval": {"values": TABLE[:, 0]},
    "intervals.standard_error_of_mean": {"se": TABLE[:, 0], "other_se": TABLE[:, 1]},
    "intervals.proportion_interval": {"right": DIGIT > 0},
    "intervals.mcnemar": {"before": DIGIT > 0, "after": DIGIT > 0},
    "intervals.welch_interval": {"a": TABLE[:, 0], "b": TABLE[:, 1]},
    "interventions.thicken": {"x": X, "by": 1.0},
    "interventions.shear": {"x": X, "by": 0.5},
    "interventions.deslant": {"x": X},
    "interventions.resize": {"x": X, "factor": 0.9},
    "interventions.blur": {"x": X, "sigma": 1.0},
    "interventions.binarise": {"x": X},
    "interventions.shift": {"x": X, "down": 1, "right": 1},
    "interventions.shuffle_pixels": {"x": X, "seed": 0},
    "interventions.gaussian_noise": {"x": X, "level": 0.1, "rng": torch.Generator()},
    "interventions.salt_and_pepper": {"x": X, "level": 0.1, "rng": torch.Generator()},
    "precision.resolve_precision": {"precision": "auto", "device": "cpu"},
    "appendix.split_appendix": {"state": {"f.f.0": X, "g.0": X}},
    "appendix.join_appendix": {"decoder": {"f.0": X}, "encoder": {"g.0": X}},
    "plots.image_rows": {
        "rows": [X, X], "row_labels": ["a", "b"], "title": "", "titles": None, "size": 1.0
    },
    "plots.save_figure": {"figure": Figure((1, 1)), "path": FOLDER / "f.png", "dataset": "mnist"},
    "plots.show_image": {"ax": Figure().subplots(), "image": X[0], "title": ""},
    **{
        f"probes.{name}": {"z": TABLE, "y": DIGIT, "other_z": TABLE, "other_y": DIGIT}
        for name in ("linear_probe", "neighbour_probe", "tree_probe")
    },
    "psis.pareto_khat": {"log_w": LOG_W},
    "psis.passes": {"khat": TABLE[:, 0], "num_samples": 100},
    "psis.khat_threshold": {"num_samples": 100},
    "quadrature.integrate_plane": {"model": MODEL, "x": X, "points": 31, "half_width": 6.0},
    "rate_distortion.guide_rate_distortion": of(num_samples=2, seed=0),
    "rate_distortion.model_rate_distortion": of(beta=1.0, num_samples=30, seed=0, x=X[:1]),
    "judges.knn_judge": {"data": SMALL, "neighbours": 1, "references": 4},
    "sampling.guide_samples": {"guide": GUIDE, "x": X, "num_samples": 2, "seed": 0},
    "sampling.decode": {"model": MODEL, "z": LATENTS, "like": X},
    "sampling.sample": {"model": MODEL, "n": 2, "like": X, "seed": 0, "pixels": True},
    "sampling.decode_style": {"model": MODEL, "style": LATENTS},
    "sampling.encode_style": of(num_samples=2, seed=0),
    "sampling.posterior_moments": {"guide": GUIDE, "x": X, "num_samples": 2, "seed": 0},
    "active_units.active_units": {"mean": LATENTS, "deviation": LATENTS + 1},
    "sampling.pixel_samples": {"means": X, "seed": 0},
    "sampling.posterior_samples": of(num_draws=2, num_samples=10, seed=0),
    "sampling.posterior_mean": of(num_samples=10, seed=0),
    "calibration.calibrate": {
        "model": MODEL, "guide": GUIDE, "images": X, "num_draws": 2, "num_samples": None, "seed": 0,
        "progress": None,
    },
    "shards.sharded_log_likelihood": of(
        folder=FOLDER / "blocks", num_samples=2, seed=0, must_match=None, progress=None
    ),
    "style.shared_correlation": {"values": STYLES},
    "style.shared_interval": {"values": STYLES, "resamples": 3, "seed": 0},
    "style.shuffled": {"values": STYLES, "seed": 0},
    "style.style_correlation": {"real": STYLES[:, 0], "drawn": STYLES, "labels": DIGIT[:8]},
    "fit.fit": {
        "model": MODEL, "guide": GUIDE, "train": (X,), "test": None, "epochs": 1, "batch_size": 2,
        "learning_rate": 1e-3, "schedule": "constant", "elbo": None, "transform": None,
        "on_epoch": None, "seed": 0, "batch_parts": 1,
        "state_path": None, "resume": False, "must_match": None, "progress": False,
    },
    "fit.check_training_options": {
        "epochs": 1, "batch_size": 2, "learning_rate": 1e-3, "seed": 0, "batch_parts": 1,
        "schedule": "cosine",
    },
    "fit.check_batch_parts": {"batch_parts": 1, "images": 4, "batch_size": 2},
    "objectives.objective": {"name": "dreg", "num_particles": 3},
    # classes, as they are made
    "gaussian.MeanField": {"model": MODEL, "precision": "float32"},
    "amortised.Amortised": {"model": MODEL, "num_params": 4, "precision": "float32"},
    "flows.InverseAutoregressive": {
        "model": MODEL, "precision": "float32", "layers": 1, "context": 2
    },
    "gaussian.FullRank": {"model": MODEL, "precision": "float32"},
    "mixture.Mixture": {"model": MODEL, "precision": "float32", "components": 2},
    "flows.Spline": {"model": MODEL, "precision": "float32", "layers": 1, "context": 2},
    "prior.PriorGuide": {"model": MODEL},
    "semi_amortised.SemiAmortised": {"model": MODEL, "precision": "float32", "steps": 1},
    "models.Model": {"decoder": MODEL.decoder, "pixel_distribution": GreyBernoulli, "prior": None},
    "appendix.Encoder": {"num_params": 4, "precision": "float32", "num_classes": 0},
    "appendix.Decoder": {"latent_dim": 2, "num_classes": 0},
    "labels.LabelLinear": {"inputs": 2, "outputs": 3, "num_classes": 4, "bias_spread": 0.0},
    "labelled.LabelEncoder": {"num_params": 4, "precision": "float32", "num_classes": 2},
    "labelled.LabelDecoder": {"latent_dim": 2, "num_classes": 2},
    "dense.DenseEncoder": {"num_params": 4, "precision": "float32", "num_classes": 0, "hidden": 8},
    "dense.DenseDecoder": {"latent_dim": 2, "num_classes": 0, "hidden": 8},
    "priors.StandardPrior": {"latent_dim": 2, "num_classes": 0},
    "priors.LearnedPrior": {"latent_dim": 2, "num_classes": 0, "layers": 1, "hidden": 8},
    "problems.LinearGaussian": {"latent_dim": 2, "data_dim": 5, "noise": 0.7, "seed": 0},
    "exact.ExactGuide": {"model": MODEL, "points": 21, "half_width": 6.0},
    "refined.Refined": {
        "model": MODEL, "guide": GUIDE, "num_starts": 1, "newton_steps": 1,
        "samples_per_round": (2,), "precision": "float32",
    },
}  # fmt: skip


class Nothing(nn.Module):
    def forward(self, *rows):
        pass


# One wrong value or more of every kind, and of the right kinds wrong ones.
NOTHING, HALF = torch.zeros(0, 1, 28, 28), X.half()
WRONG = {
    "an object": object(),
    "None": None,
    "a text": "typo",
    "no text": "",
    "two lines": "two\nlines",
    "True": True,
    "0": 0,
    "10": 10,
    "-1": -1,
    "2 ** 70": 2**70,
    "1.5": 1.5,
    "-0.5": -0.5,
    "NaN": math.nan,
    "inf": math.inf,
    "no item": [],
    "one object": [object()],
    "no key": {},
    "an array of none": np.zeros(0),
    "an array of NaN": np.full((20, 3), np.nan),
    "an array of texts": np.array(["a", "b"]),
    "an array of one": np.zeros(1),
    "a number's array": np.array(1.0),
    "an array of whole numbers": np.arange(20),
    "an array of five axes": np.zeros((1, 2, 1, 2, 1)),
    "a number's tensor": torch.tensor(0.0),
    "no image": NOTHING,
    "NaN images": torch.full((4, 1, 28, 28), math.nan),
    "half images": HALF,
    "a flat tensor": torch.zeros(4),
    "whole numbers": torch.zeros(4, 2, dtype=torch.int64),
    "five axes": torch.zeros(1, 1, 1, 28, 28),
    "a program that samples nothing": lambda *rows: None,
    "a module that samples nothing": Nothing(),
    "a path": Path("no", "such", "thing"),
    "a folder": FOLDER,
}


def spoilt(right: object) -> dict[str, object]:
    """Values of the same shape as a right one, with something else in them."""
    if isinstance(right, torch.Tensor) and right.dtype == torch.bool:
        return {"whole": right.int(), "floats": right.float(), "nearly none": right[:1]}
    if isinstance(right, torch.Tensor):
        numbers = right.detach()
        return {
            "double": numbers.double(),
            "bfloat16": numbers.bfloat16(),
            "wanting a gradient": numbers.float().requires_grad_(),
            "below": numbers - 99,
            "above": numbers + 99,
            "complex": numbers.to(torch.complex64),
            "whole": numbers.to(torch.int32),
            "nearly none": numbers[:1],
        }
    if isinstance(right, np.ndarray):
        numbers = right.astype(float)
        return {
            "as texts": right.astype(str),
            "as objects": right.astype(object),
            "as whole numbers": numbers.astype(int),
            "as halves": numbers + 0.5,
            "below": right - 99 if right.dtype != bool else right,
            "above": numbers.astype(int) + 99,
            "NaN": numbers * np.nan,
            "inf": numbers + np.inf,
            "the same": numbers * 0,
            "a column": right.reshape(len(right), -1)[:, :1],
            "nearly none": right[:1],
        }
    if type(right) in (int, float):
        return {"huge": 1e300, "a NumPy number": np.int64(3), "a NumPy float": np.float32(0.5)}
    if isinstance(right, dict):
        return {"of numbers": {1: X}, "one none": {**right, "none": None}}
    return {}


# the package's modules by the last part of their names, which differ
MODULES = {
    module.name.rpartition(".")[2]: module.name
    for module in pkgutil.walk_packages(pyro_vae.__path__, "pyro_vae.")
}


def function(name: str) -> Callable:
    module, _, path = name.partition(".")
    return attrgetter(path)(importlib.import_module(MODULES[module]))


def fits(value: object, annotation: object) -> bool:
    """Whether `value` may be meant, by the annotation; not by the code that is under test."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return fits(value, parts[0])
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if annotation in (int, float):
        number = Integral if annotation is int else Real
        return isinstance(value, number) and type(value) is not bool
    if annotation in (str, bool):
        return type(value) is annotation
    if origin in (tuple, list, Sequence):
        return isinstance(value, list | tuple) and all(fits(each, parts[0]) for each in value)
    return isinstance(value, origin or annotation)


def cases():
    for name in RIGHT:
        for argument in inspect.signature(function(name)).parameters.values():
            if argument.annotation is inspect.Parameter.empty:
                continue
            if argument.kind is not inspect.Parameter.VAR_POSITIONAL:
                yield pytest.param(name, argument, id=f"{name}: {argument.name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arguments")
    config = {"latent_dim": 2, "precision": "float32", "architecture": "dense"}
    save_vae(folder / "vae.pt", MODEL, GUIDE, config)
    (folder / "pictures").mkdir()
    for i, image in enumerate(torch.rand(10, 28, 28)):
        save_image(image, folder / "pictures" / f"{i}.png")
    return folder


def call(called: str, inside: Path, /, **wrong: object) -> object:
    """The right call of a function but for what is `wrong`; its files lie `inside` a folder."""

    def own(value: object) -> object:
        if isinstance(value, Path) and value.parts[:1] == FOLDER.parts:
            return inside.joinpath(*value.parts[1:])
        return deepcopy(value) if isinstance(value, nn.Module) else value  # training changes it

    arguments = RIGHT[called] | wrong
    return function(called)(**{name: own(value) for name, value in arguments.items()})


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_call_is_right(name, folder):
    call(name, folder)


@pytest.mark.parametrize(("name", "argument"), list(cases()))
@pytest.mark.filterwarnings("ignore")  # Pyro's, of a program without parameters
def test_a_wrong_argument_is_one_line_that_names_it(name, argument, folder, monkeypatch):
    monkeypatch.chdir(folder)  # where a wrong path may lead
    for what, value in (WRONG | spoilt(RIGHT[name].get(argument.name))).items():
        if what == "2 ** 70" and argument.annotation is int and argument.name != "seed":
            continue  # a count as high as that would only take as long
        said = ""
        try:
            call(name, folder, **{argument.name: value})
        except TrainingError:
            assert argument.name == "learning_rate"
            continue
        except InputError as error:
            said = str(error)
            assert len(said.splitlines()) == 1, what
        except Exception as error:
            raise AssertionError(f"{argument.name} {what}: {type(error).__name__}") from error
        if not fits(value, argument.annotation):
            assert said.startswith(f"{argument.name} must be "), what


def test_numpys_numbers_arrive_as_pythons():
    @checked
    def arrived(count: int, share: float | None = None, anything: object = None) -> list:
        return [count, share, anything]

    assert [type(value) for value in arrived(np.int64(3), np.float32(0.5), np.int64(3))] == [
        int, float, np.int64,
    ]  # fmt: skip
    assert [type(value) for value in arrived(np.uint8(3), share=2)] == [int, int, type(None)]
    for wrong in (np.bool_(True), np.float64(3), np.array(3), torch.tensor(3)):
        with pytest.raises(InputError, match="count must be a whole number, not"):
            arrived(wrong)


def test_every_checked_function_is_in_the_table():
    packages = pkgutil.walk_packages(pyro_vae.__path__, "pyro_vae.")
    assert len(MODULES) == len([*packages]), "two modules of one name: one would hide the other"
    found, checks = set(), checked(lambda: None).__code__
    for room, module in MODULES.items():
        for name, thing in vars(importlib.import_module(module)).items():
            if getattr(thing, "__module__", "") != module:
                continue
            made = thing.__init__ if inspect.isclass(thing) else thing
            if getattr(made, "__code__", None) is checks:
                found.add(f"{room}.{name}")
            methods = vars(thing) if inspect.isclass(thing) else {}
            for method, function in methods.items():
                function = getattr(function, "__func__", function)
                if method != "__init__" and getattr(function, "__code__", None) is checks:
                    found.add(f"{room}.{name}.{method}")
    assert found == {*RIGHT, "flows.Flow"}  # which is made only as one of its kinds
