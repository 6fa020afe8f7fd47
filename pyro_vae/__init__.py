"""Variational autoencoders as Pyro programs, with log p(x) that says how far to trust it.

Everything that a user imports is here: `from pyro_vae import Vae, fit, log_likelihood`. A name is
loaded when it is first used, so that the estimators of log weights need neither Pyro nor networks.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0.dev0"

# Each public name and the module that it is in.
_PUBLIC = {
    # one object
    "Vae": "vae",  # model, guide and config: load, save, score, draw
    # data
    "load_dataset": "data.loading",  # MNIST and its family, scikit-learn's digits; checked
    "load_images": "data.folder",  # a folder of image files, made as MNIST's are
    "Dataset": "data.dataset",  # images, labels, names of the classes
    "as_images": "data.conversion",  # arrays, lists, Datasets and DataLoaders as tensors
    "ConversionWarning": "data.conversion",  # what was done to images, to be silenced
    # the model, p(z) p(x | z)
    "Model": "models",  # prior, decoder and pixels as a Pyro model
    "GreyBernoulli": "models",  # the appendix's score for grey pixels
    "ContinuousBernoulli": "models",  # a density over grey pixels
    "StandardPrior": "priors",  # N(0, I)
    "LearnedPrior": "priors",  # a flow, for each label
    "Encoder": "networks.appendix",  # the appendix's networks, layer for layer
    "Decoder": "networks.appendix",
    # guides, q(z | x)
    "Amortised": "guides.amortised",  # subclass it: a guide of your own in ten lines
    "MeanField": "guides.gaussian",  # the appendix's
    "FullRank": "guides.gaussian",
    "Mixture": "guides.mixture",
    "InverseAutoregressive": "guides.flows",
    "Spline": "guides.flows",
    "SemiAmortised": "guides.semi_amortised",
    "PriorGuide": "guides.prior",  # ignores the image: the baseline
    "Refined": "guides.refined",  # fitted to each image: passes the k-hat rule
    "ExactGuide": "guides.exact",  # the posterior itself, at d = 2
    # training
    "fit": "training.fit",  # SVI, resumed exactly
    "objective": "training.objectives",  # the ELBO, IWAE, and their path gradients
    "TrainingError": "training.stopping",
    "Interrupted": "training.stopping",
    # log p(x)
    "log_likelihood": "accuracy",  # of any model, by any guide
    "unlabelled_log_likelihood": "likelihood.unlabelled",  # of images whose label is not known
    "log_weights": "likelihood.importance",  # what it rests on, (K, B)
    "estimate": "likelihood.estimate",  # from log weights alone, NumPy's too
    "Estimate": "likelihood.estimate",  # value, se, ess, khat
    "iwae": "likelihood.estimate",  # IWAE-k
    "pareto_khat": "likelihood.psis",  # how far to trust
    "annealed_log_likelihood": "likelihood.annealing",  # a second opinion
    "integrate_plane": "likelihood.quadrature",  # exact, at d = 2
    # images
    "sample": "analysis.sampling",  # from the model's own prior, a learned one too
    "decode": "analysis.sampling",  # the mean images of latents
    "simulate": "likelihood.traces",  # draws of images, with their latents
    # questions
    "calibrate": "analysis.calibration",  # a guide, on images whose latents are known
    "compare": "analysis.comparison",  # guides in one table
    "complete": "analysis.completion",  # images of which some pixels are seen
    # for tests and for users' errors
    "LinearGaussian": "problems",  # a problem with exact answers
    "InputError": "errors",  # wrong input, said in one line
}

__all__ = list(_PUBLIC)

if TYPE_CHECKING:  # the same names, for editors and type checkers
    from pyro_vae.accuracy import log_likelihood as log_likelihood
    from pyro_vae.analysis.calibration import calibrate as calibrate
    from pyro_vae.analysis.comparison import compare as compare
    from pyro_vae.analysis.completion import complete as complete
    from pyro_vae.analysis.sampling import decode as decode
    from pyro_vae.analysis.sampling import sample as sample
    from pyro_vae.data.conversion import ConversionWarning as ConversionWarning
    from pyro_vae.data.conversion import as_images as as_images
    from pyro_vae.data.dataset import Dataset as Dataset
    from pyro_vae.data.folder import load_images as load_images
    from pyro_vae.data.loading import load_dataset as load_dataset
    from pyro_vae.errors import InputError as InputError
    from pyro_vae.guides.amortised import Amortised as Amortised
    from pyro_vae.guides.exact import ExactGuide as ExactGuide
    from pyro_vae.guides.flows import InverseAutoregressive as InverseAutoregressive
    from pyro_vae.guides.flows import Spline as Spline
    from pyro_vae.guides.gaussian import FullRank as FullRank
    from pyro_vae.guides.gaussian import MeanField as MeanField
    from pyro_vae.guides.mixture import Mixture as Mixture
    from pyro_vae.guides.prior import PriorGuide as PriorGuide
    from pyro_vae.guides.refined import Refined as Refined
    from pyro_vae.guides.semi_amortised import SemiAmortised as SemiAmortised
    from pyro_vae.likelihood.annealing import annealed_log_likelihood as annealed_log_likelihood
    from pyro_vae.likelihood.estimate import Estimate as Estimate
    from pyro_vae.likelihood.estimate import estimate as estimate
    from pyro_vae.likelihood.estimate import iwae as iwae
    from pyro_vae.likelihood.importance import log_weights as log_weights
    from pyro_vae.likelihood.psis import pareto_khat as pareto_khat
    from pyro_vae.likelihood.quadrature import integrate_plane as integrate_plane
    from pyro_vae.likelihood.traces import simulate as simulate
    from pyro_vae.likelihood.unlabelled import (
        unlabelled_log_likelihood as unlabelled_log_likelihood,
    )
    from pyro_vae.models import ContinuousBernoulli as ContinuousBernoulli
    from pyro_vae.models import GreyBernoulli as GreyBernoulli
    from pyro_vae.models import Model as Model
    from pyro_vae.networks.appendix import Decoder as Decoder
    from pyro_vae.networks.appendix import Encoder as Encoder
    from pyro_vae.priors import LearnedPrior as LearnedPrior
    from pyro_vae.priors import StandardPrior as StandardPrior
    from pyro_vae.problems import LinearGaussian as LinearGaussian
    from pyro_vae.training.fit import fit as fit
    from pyro_vae.training.objectives import objective as objective
    from pyro_vae.training.stopping import Interrupted as Interrupted
    from pyro_vae.training.stopping import TrainingError as TrainingError
    from pyro_vae.vae import Vae as Vae


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pyro_vae' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"pyro_vae.{_PUBLIC[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
