"""Question (c): 4 latent dimensions, 20, and PyTorch's example, compared on grounds that hold up.

Log-likelihood by a proposal that can be trusted beside the bounds, rate and distortion, what each
dimension draws, overfitting, samples as an independent classifier sees them, noise, interpolation,
what the latents know of the labels, cost; each over several training seeds.

    python -m experiments.question_c
"""

import copy
import time
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor
from tqdm import tqdm

from experiments.cli import TRAINING, announce_and_load, check_at_least, make_parser, run
from experiments.question_c.overview import (
    maps_figure,
    overview_figure,
    preferences_figure,
    samples_figure,
    units_figure,
)
from experiments.record import Results
from experiments.trained import Spec, load_or_train, trained_classifier
from pyro_vae.analysis.active_units import active_units
from pyro_vae.analysis.features import entropy_floor, nearest_distance
from pyro_vae.analysis.fidelity import frechet_distance, precision_recall
from pyro_vae.analysis.interventions import gaussian_noise, salt_and_pepper
from pyro_vae.analysis.judges import Classifier, class_features, class_probabilities
from pyro_vae.analysis.probes import linear_probe, neighbour_probe
from pyro_vae.analysis.rate_distortion import guide_rate_distortion, model_rate_distortion
from pyro_vae.analysis.sampling import decode, encode_style, posterior_moments
from pyro_vae.data import Dataset
from pyro_vae.errors import InputError, check_counts, check_seed
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.intervals import mean_interval, welch_interval
from pyro_vae.likelihood.psis import khat_threshold
from pyro_vae.models import ContinuousBernoulli, Model
from pyro_vae.seeds import derive_seed
from pyro_vae.training.fit import fit

SEED = 4  # of everything drawn for the comparison; the trainings have their own
BETAS = (0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)
NOISES = {
    "Gaussian noise": (gaussian_noise, [0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0]),
    "salt and pepper": (salt_and_pepper, [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]),
}


class Contender(NamedTuple):
    """What is trained: a name for figures, d, and the networks."""

    label: str
    latent_dim: int
    architecture: str


CONTENDERS = {
    "d4": Contender("d = 4", 4, "appendix"),
    "d20": Contender("d = 20", 20, "appendix"),
    "example": Contender("PyTorch's example", 20, "dense"),
}
PAIRS = (("d20", "d4"), ("example", "d20"), ("example", "d4"))


class Vae(NamedTuple):
    """One trained autoencoder, and its scores of test images."""

    model: Model
    guide: MeanField
    config: dict
    bounds: Estimate | None = None  # of all test images, by 100 samples of the guide
    refined: Estimate | None = None  # of the chosen test images, by 1,000 of the refined guide

    def here(self, rows: Tensor) -> Tensor:
        """`rows` on the device of the networks."""
        return rows.to(next(self.model.parameters()).device)


Vaes = dict[str, list[Vae]]  # of each contender, one for each training seed


def refined(vae: Vae, x: Tensor, what: str, model: Model | None = None) -> Estimate:
    """log p(x) by 1,000 samples of the refined guide, under `model` if it is another."""
    model = model or vae.model
    guide = Refined(model, vae.guide)
    return log_likelihood(model, guide, vae.here(x), num_samples=1000, seed=SEED, progress=what)


def reconstructions(vae: Vae, x: Tensor) -> Tensor:
    """The mean image at one draw of the guide, for each image of `x`."""
    z = encode_style(vae.model, vae.guide, x, num_samples=1, seed=SEED)[0]
    return decode(vae.model, z)


def over_seeds(runs: list) -> dict:
    """The same measurements of several seeds as one: each number becomes mean, sd and seeds."""
    if isinstance(runs[0], dict):
        return {key: over_seeds([run[key] for run in runs]) for key in runs[0]}
    values = np.array(runs, float)
    spread = values.std(0, ddof=1) if len(runs) > 1 else np.full(values.shape[1:], np.nan)
    return {"mean": values.mean(0).tolist(), "sd": spread.tolist(), "seeds": values.tolist()}


def over_trainings(one: list[np.ndarray], other: list[np.ndarray]) -> dict:
    """How far apart two contenders' means over images lie, with the interval over trainings.

    Not paired: seed s of one has nothing in common with seed s of the other.
    """
    return welch_interval(*(np.array([run.mean() for run in runs]) for runs in (one, other)))


# ---------------------------------------------------------------- log-likelihood and its bounds


def scores(vaes: Vaes, chosen: np.ndarray, labels: np.ndarray) -> dict:
    """ELBO, IWAE-100 and log p of the same test images: means, gaps, paired differences."""
    measures = {
        key: [
            {
                "elbo": vae.bounds.elbo[chosen],
                "iwae_100": vae.bounds.value[chosen],
                "log_p": vae.refined.value,
            }
            for vae in seeds
        ]
        for key, seeds in vaes.items()
    }
    metrics: dict = {}
    for key, seeds in vaes.items():
        means = [
            {name: float(value.mean()) for name, value in one.items()} for one in measures[key]
        ]
        for one in means:
            one["elbo_gap"] = one["log_p"] - one["elbo"]
            one["iwae_100_gap"] = one["log_p"] - one["iwae_100"]
        metrics[key] = over_seeds(means) | {
            "first": seeds[0].refined.summary() | {"pixels": "grey (surrogate score)"},
            "bounds_of_all_test_images": seeds[0].bounds.summary(),
            "share_trusted_of_seeds": [float(vae.refined.trusted().mean()) for vae in seeds],
        }
    names = ("elbo", "iwae_100", "log_p")
    metrics["ranking"] = {
        name: sorted(vaes, key=lambda key: -metrics[key][name]["mean"]) for name in names
    }
    metrics["pairs"] = {}
    for one, other in PAIRS:
        # image by image, averaged over the seeds
        by_name = {
            name: np.mean([run[name] for run in measures[one]], 0)
            - np.mean([run[name] for run in measures[other]], 0)
            for name in names
        }
        difference = by_name["log_p"]
        runs = [[run["log_p"] for run in measures[key]] for key in (one, other)]
        metrics["pairs"][f"{one} - {other}"] = {
            **{name: mean_interval(value) for name, value in by_name.items()},
            "log_p_over_trainings": over_trainings(*runs),
            # what judging by the bound alone would add to the difference
            **{
                f"{name}_minus_log_p": mean_interval(by_name[name] - difference)
                for name in names[:2]
            },
            "share_preferring_first": float((difference > 0).mean()),
            "share_where_elbo_disagrees": float(
                (np.sign(by_name["elbo"]) != np.sign(difference)).mean()
            ),
            "by_class": by_class(difference, runs, labels),
            "preferring_second": int((difference < 0).sum()),
        }
    return metrics


def by_class(difference: np.ndarray, runs: list[list[np.ndarray]], labels: np.ndarray) -> dict:
    """For each digit: `difference` over its images, and between the trainings of two contenders.

    `difference`, `(B,)`, is the mean over the trainings; `runs` has each training's log p, `(B,)`.
    """
    found = {}
    for digit in np.unique(labels):
        own = labels == digit
        found[str(digit)] = mean_interval(difference[own]) | {
            "over_trainings": over_trainings(*([log_p[own] for log_p in part] for part in runs)),
            "median": float(np.median(difference[own])),
            "preferring_second": int((difference[own] < 0).sum()),
        }
    return found


def preferred(vaes: Vaes, one: str, other: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the chosen images that most prefer `one` to `other`, then of the reverse; nats."""
    by_seed = [
        a.refined.value - b.refined.value for a, b in zip(vaes[one], vaes[other], strict=True)
    ]
    difference = np.mean(by_seed, 0)
    order = np.argsort(-difference)
    return np.concatenate([order[:count], order[-count:][::-1]]), difference


def other_pixels(vaes: Vaes, x: Tensor) -> dict:
    """log p under three likelihoods of the pixels, each apart, of the mean over the trainings.

    `x` are the first of the images whose grey scores are known.
    """
    binarised = torch.bernoulli(x, generator=torch.Generator().manual_seed(SEED))
    found: dict = {kind: {} for kind in ("grey", "binarised", "continuous")}
    for key, seeds in vaes.items():
        found["grey"][key] = [vae.refined.subset(slice(len(x))) for vae in seeds]
        found["binarised"][key] = [refined(vae, binarised, f"{key}: binarised") for vae in seeds]
        continuous = [
            Model(vae.model.decoder, ContinuousBernoulli, vae.model.prior) for vae in seeds
        ]
        found["continuous"][key] = [
            refined(vae, x, f"{key}: continuous Bernoulli", model)
            for vae, model in zip(seeds, continuous, strict=True)
        ]
    metrics: dict = {}
    for kind, estimates in found.items():
        metrics[kind] = {
            key: over_seeds(
                [
                    {"log_p": float(one.value.mean()), "share_trusted": float(one.trusted().mean())}
                    for one in seeds
                ]
            )
            for key, seeds in estimates.items()
        }
        means = {key: np.mean([one.value for one in seeds], 0) for key, seeds in estimates.items()}
        for one, other in PAIRS:
            metrics[kind][f"{one} - {other}"] = mean_interval(means[one] - means[other]) | {
                "over_trainings": over_trainings(
                    *([run.value for run in estimates[key]] for key in (one, other))
                )
            }
    return metrics


def overfitting(vaes: Vaes, data: Dataset, chosen: np.ndarray) -> dict:
    """Train against test: of log p (the generator) and of the gap (the encoder).

    Of each image the mean over the trainings. Training and test images are different images, and
    may differ in difficulty by more than their floors; what differs between two models is free of
    that.
    """
    count = max(2, len(chosen) // 2)
    picked = np.random.default_rng(SEED).permutation(len(data.train_images))[:count]
    x, test = data.train_images[picked], data.test_images[chosen]
    floor, test_floor = -entropy_floor(x), -entropy_floor(test)
    metrics: dict = {
        "train_images": count,
        "test_images": len(chosen),
        # how much easier the training images are by themselves, for any model
        "floor": unpaired(floor, test_floor),
    }
    scores: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for key, seeds in vaes.items():
        bounds = [log_likelihood(vae.model, vae.guide, vae.here(x), seed=SEED) for vae in seeds]
        again = [refined(vae, x, f"{key}: training images") for vae in seeds]
        log_p = np.mean([one.value for one in again], 0)
        test_log_p = np.mean([vae.refined.value for vae in seeds], 0)
        elbo = np.mean([one.elbo for one in bounds], 0)
        test_elbo = np.mean([vae.bounds.elbo[chosen] for vae in seeds], 0)
        scores[key] = (log_p, test_log_p)
        metrics[key] = {
            "log_p": unpaired(log_p, test_log_p),
            "above_floor": unpaired(log_p - floor, test_log_p - test_floor),
            "elbo_gap": unpaired(log_p - elbo, test_log_p - test_elbo),
            "share_trusted": float(np.mean([one.trusted() for one in again])),
        }
    for one, other in PAIRS:
        metrics[f"{one} - {other}"] = unpaired(
            *(a - b for a, b in zip(scores[one], scores[other], strict=True))
        )
    return metrics


def unpaired(one: np.ndarray, other: np.ndarray) -> dict:
    """Means of two sets of images, and their difference with its 95% interval."""
    return {
        "train": float(one.mean()),
        "test": float(other.mean()),
        "train_minus_test": welch_interval(one, other),
    }


# ---------------------------------------------------------------- rate, distortion, units


def rate_distortion(vaes: Vaes, x: Tensor, few: int) -> dict:
    """The point of each guide over images `x`, and over the first `few` of them each generator's
    curve (first trainings) and the guides' points.
    """
    metrics: dict = {"beta": list(BETAS), "images": len(x), "images_of_curves": few}
    draws = 500  # for each point of a curve
    for key, seeds in vaes.items():
        x = seeds[0].here(x)
        points = [guide_rate_distortion(vae.model, vae.guide, x, seed=SEED) for vae in seeds]
        guides, beside = (
            over_seeds(
                [
                    {"rate": float(r[:n].mean()), "distortion": float(d[:n].mean())}
                    for r, d in points
                ]
            )
            for n in (len(x), few)
        )
        curve = [
            model_rate_distortion(
                seeds[0].model, seeds[0].guide, x[:few], beta=beta, num_samples=draws, seed=SEED
            )
            for beta in tqdm(BETAS, desc=f"{key}: rate and distortion")
        ]
        metrics[key] = {
            "guide": guides,
            "guide_beside_curve": beside,
            "rate": [float(point.rate.mean()) for point in curve],
            "distortion": [float(point.distortion.mean()) for point in curve],
            "share_trusted": [
                float((point.khat < khat_threshold(draws)).mean()) for point in curve
            ],
        }
    return metrics


def units(vaes: Vaes, data: Dataset, x: Tensor, classifier: Classifier) -> dict:
    """How much each latent dimension is used: variance of its mean over the test images, and KL.

    And what it does to the digit: of the images `x`, the share of which the classifier reads
    another digit when the dimension alone is moved by 2 from the guide's mean, up or down.
    """
    metrics = {}
    for key, seeds in vaes.items():
        found, orders = [], []
        for vae in seeds:
            use = active_units(*posterior_moments(vae.guide, data.test_images))
            loc, _ = posterior_moments(vae.guide, x)

            def read(z: Tensor, vae: Vae = vae) -> np.ndarray:
                return class_probabilities(classifier, decode(vae.model, z)).argmax(1)

            digit, moves = read(loc), 2 * torch.eye(loc.shape[1])[use.order]
            changes = [
                float(np.mean([read(loc + move) != digit, read(loc - move) != digit]))
                for move in moves
            ]
            found.append(
                {
                    "active": use.active,
                    "activity": use.activity,
                    "kl": use.kl,
                    "changes_digit": changes,
                    "changes_digit_mean": sum(changes[: use.active]) / max(1, use.active),
                }
            )
            orders.append(use.order)
        metrics[key] = over_seeds(found) | {"order_of_first_seed": orders[0]}
    return metrics


def unit_images(vae: Vae, x: Tensor, order: list[int], most: int = 20) -> Tensor:
    """What the first units in `order` draw, `(units, 9, 1, 28, 28)`: one is moved from -3 to 3.

    The others stay where the guide puts the image `x`, shape `(1, 1, 28, 28)`.
    """
    rows = []
    loc, _ = posterior_moments(vae.guide, x)
    for unit in order[:most]:
        z = loc.repeat(9, 1)
        z[:, unit] = torch.linspace(-3, 3, 9)
        rows.append(decode(vae.model, z))
    return torch.stack(rows)


# ---------------------------------------------------------------- samples


def samples(
    vaes: Vaes, data: Dataset, classifier: Classifier, count: int
) -> tuple[dict, dict[str, tuple[Tensor, np.ndarray]]]:
    """Mean images of draws from the prior, beside real ones, as the classifier sees them.

    And, for the first seeds, some of them with the classifier's reading of each.
    """
    real, train = data.test_images[:count], data.train_images[:count]
    real_features = class_features(classifier, real)
    some = max(2, count // 5)
    few = min(count, 3000)  # all distances between them are held at once

    def nearness(images: Tensor) -> dict:
        """Of `images`, the share to which, of all real images, a training image is nearest.

        Images that have nothing to do with the training have it for the share of the training
        images in all real ones, nearly: see "nearest_is_training_by_chance".
        """
        nearest, nearest_test = (
            nearest_distance(images[:some], others)
            for others in (data.train_images, data.test_images)
        )
        return {
            "nearest_training": float(np.median(nearest)),
            "nearest_is_training": float((nearest < nearest_test).mean()),
        }

    def measure(images: Tensor) -> dict:
        features = class_features(classifier, images)
        p = class_probabilities(classifier, images)
        share = np.bincount(p.argmax(1), minlength=10) / len(p)
        precision, recall = precision_recall(real_features[:few], features[:few])
        return {
            "frechet": frechet_distance(real_features, features),
            "precision": precision,
            "recall": recall,
            "confidence": float(p.max(1).mean()),
            "share_confident": float((p.max(1) > 0.95).mean()),
            "class_share": share.tolist(),
            "class_entropy": float(-(share * np.log(share.clip(1e-12))).sum()),
            **nearness(images),
        }

    metrics: dict = {
        "images": len(real),
        "images_of_precision_and_recall": few,
        "images_of_nearest": some,
        "nearest_is_training_by_chance": len(data.train_images)
        / (len(data.train_images) + len(data.test_images)),
        "training images": measure(train),
    }
    own = class_probabilities(classifier, real)
    metrics["test images"] = {
        "confidence": float(own.max(1).mean()),
        "share_confident": float((own.max(1) > 0.95).mean()),
        "nearest_training": float(np.median(nearest_distance(real[:some], data.train_images))),
    }
    # which a guide turns into copies, such as a generator that had learned them by heart would draw
    chosen = np.random.default_rng(SEED).permutation(len(data.train_images))[:some]
    shown = {}
    for key, seeds in vaes.items():
        drawn, rebuilt, copied = [], [], []
        for training, vae in enumerate(tqdm(seeds, desc=f"{key}: samples")):
            d = vae.model.decoder.latent_dim
            rng = torch.Generator().manual_seed(derive_seed(SEED, training))
            z = torch.randn(len(real), d, generator=rng)
            images = decode(vae.model, z)
            drawn.append(measure(images))
            rebuilt.append(measure(reconstructions(vae, real)))
            copied.append(nearness(reconstructions(vae, data.train_images[chosen])))
            if vae is seeds[0]:
                shown[key] = (images[:24], class_probabilities(classifier, images[:24]))
        metrics[key] = {
            "prior": over_seeds(drawn),
            "reconstructions": over_seeds(rebuilt),
            "reconstructions_of_training": over_seeds(copied),
        }
    return metrics, shown


# ---------------------------------------------------------------- noise, interpolation, labels


def robustness(vaes: Vaes, x: Tensor, labels: np.ndarray, classifier: Classifier) -> dict:
    """Reconstructions of noisy images, and the way between two images, as the classifier reads."""
    metrics: dict = {
        "images": len(x),
        "noise": {kind: {"level": levels} for kind, (_, levels) in NOISES.items()},
        "interpolation": {"t": np.linspace(0, 1, 11).tolist()},
    }

    def right(images: Tensor) -> float:
        return float((class_probabilities(classifier, images).argmax(1) == labels).mean())

    for kind, (add_noise, levels) in NOISES.items():
        rng = torch.Generator().manual_seed(SEED)
        noisy = [add_noise(x, level, rng) for level in levels]
        metrics["noise"][kind]["no autoencoder"] = [right(images) for images in noisy]
        for key, seeds in vaes.items():
            metrics["noise"][kind][key] = over_seeds(
                [[right(reconstructions(vae, images)) for images in noisy] for vae in seeds]
            )

    # from each image to the next, where these are different digits
    first = np.array([i for i, (a, b) in enumerate(pairwise(labels)) if a != b])
    t = torch.linspace(0, 1, 11)

    def along(start: Tensor, end: Tensor) -> Tensor:
        return torch.lerp(start, end, t.view(-1, *[1] * start.dim()))

    def readings(images: Tensor) -> dict:
        """Of images `(11, B, 1, 28, 28)` on the way from one digit to another."""
        p = class_probabilities(classifier, images.flatten(0, 1)).reshape(11, len(first), 10)
        read = p.argmax(-1)
        third = (read != labels[first]) & (read != labels[first + 1])
        return {
            "confidence": p.max(-1).mean(1).tolist(),
            "third_digit": third.mean(1).tolist(),
            "least_confidence": float(p.max(-1).min(0).mean()),
        }

    metrics["interpolation"]["pairs"] = len(first)
    metrics["interpolation"]["mix of the pixels"] = readings(along(x[first], x[first + 1]))
    for key, seeds in vaes.items():
        found = []
        for vae in seeds:
            z, _ = posterior_moments(vae.guide, x)
            images = decode(vae.model, along(z[first], z[first + 1]).flatten(0, 1))
            found.append(readings(images.unflatten(0, (11, -1))))
        metrics["interpolation"][key] = over_seeds(found)
    return metrics


def usefulness(vaes: Vaes, data: Dataset) -> dict:
    """What the posterior means tell of the labels, read off on the test images."""
    y, other_y = data.train_labels.numpy(), data.test_labels.numpy()
    metrics: dict = {"train_images": len(y), "test_images": len(other_y)}
    for key, seeds in vaes.items():
        found = []
        for vae in tqdm(seeds, desc=f"{key}: probes"):
            z, other_z = (
                posterior_moments(vae.guide, x)[0].double().numpy()
                for x in (data.train_images, data.test_images)
            )
            found.append(
                {
                    "linear": linear_probe(z, y, other_z, other_y)[0],
                    "neighbours": neighbour_probe(z, y, other_z, other_y),
                }
            )
        metrics[key] = over_seeds(found)
    pixels, unseen = (images.flatten(1).numpy() for images in (data.train_images, data.test_images))
    print("pixels: probes, a few minutes")
    metrics["pixels"] = {
        "linear": linear_probe(pixels, y, unseen, other_y)[0],
        "neighbours": neighbour_probe(pixels, y, unseen, other_y),
    }
    return metrics


def cost(vaes: Vaes, data: Dataset, seconds: dict[str, dict[str, float]]) -> dict:
    """Parameters and seconds; training is timed here, on copies, since a record may be resumed."""
    metrics = {}
    few = data.train_images[:10_000]
    for key, (vae, *_) in tqdm(vaes.items(), desc="cost"):
        model, guide = copy.deepcopy((vae.model, vae.guide))
        rows, batch_size = (vae.here(few),), vae.config["batch_size"]
        start = time.perf_counter()
        fit(model, guide, rows, epochs=1, batch_size=batch_size, progress=False)
        epoch = (time.perf_counter() - start) * len(data.train_images) / len(few)
        start = time.perf_counter()
        decode(vae.model, torch.randn(10_000, vae.model.decoder.latent_dim))
        metrics[key] = {
            "generator_parameters": sum(w.numel() for w in vae.model.parameters()),
            "encoder_parameters": sum(w.numel() for w in vae.guide.parameters()),
            "seconds_an_epoch": epoch,
            "seconds_for_10000_samples": time.perf_counter() - start,
            **seconds[key],
        }
    return metrics


# ---------------------------------------------------------------- the whole


def as_text(metrics: dict) -> str:
    """The table for a terminal: mean over seeds, and their standard deviation in brackets."""
    rows = {
        "ELBO": ("scores", "elbo"),
        "IWAE-100": ("scores", "iwae_100"),
        "log p(x), refined": ("scores", "log_p"),
        "rate": ("rate_distortion", "guide", "rate"),
        "distortion": ("rate_distortion", "guide", "distortion"),
        "active units": ("units", "active"),
        "samples: Frechet distance": ("samples", "prior", "frechet"),
        "samples: precision": ("samples", "prior", "precision"),
        "samples: recall": ("samples", "prior", "recall"),
        "samples: read with > 95%": ("samples", "prior", "share_confident"),
        "reconstructions: Frechet": ("samples", "reconstructions", "frechet"),
        "neighbours read z": ("usefulness", "neighbours"),
        "a line reads z": ("usefulness", "linear"),
    }
    lines = [f"{'':<28}" + "".join(f"{c.label:>24}" for c in CONTENDERS.values())]
    for label, (part, *path) in rows.items():
        cells = []
        for key in CONTENDERS:
            value = metrics[part][key]
            for step in path:
                value = value[step]
            spread = "" if np.isnan(value["sd"]) else f" ({value['sd']:.3f})"
            cells.append(f"{value['mean']:.3f}{spread}")
        lines.append(f"{label:<28}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def check_alike(vaes: Vaes) -> None:
    """Raise InputError unless all contenders were trained in the same way."""
    first = vaes["d4"][0].config
    for key, seeds in vaes.items():
        for vae in seeds:
            for option in ("epochs", "batch_size", "learning_rate"):
                if vae.config.get(option) != first.get(option):
                    raise InputError(
                        f"{key} was trained with {option}={vae.config.get(option)} and d4 with "
                        f"{first.get(option)}: add --train to train all alike, or name another "
                        "--results"
                    )


def main() -> None:
    """Train or load every contender, measure each ground, draw the figures, write the metrics."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=None)
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="S",
        help="trainings of each contender: seeds SEED, SEED + 1, ...",
    )
    parser.add_argument(
        "--images", type=int, default=1000, metavar="N", help="test images for the refined scores"
    )
    args = parser.parse_args()
    check_counts(seeds=args.seeds)
    check_at_least("--images", args.images, 20)
    data = announce_and_load(
        args,
        f"question (c): three autoencoders, training seeds of each: {args.seeds}. About 40 "
        "minutes on 2 cores once they are trained; the two of the appendix's make take 6 minutes "
        "each to train.",
    )
    results = Results(args, data, "question_c")
    base = args.seed
    check_seed(base + args.seeds - 1)
    vaes: Vaes = {key: [] for key in CONTENDERS}
    for seed in range(base, base + args.seeds):
        for key, contender in CONTENDERS.items():
            name = key if seed == TRAINING["seed"] else f"{key}_seed{seed}"
            spec = Spec(contender.latent_dim, contender.architecture)
            trained = load_or_train(args, data, spec, name, seed=seed)
            vaes[key].append(Vae(trained.model, trained.guide, trained.config))
            check_alike(vaes)  # before hours go into the next
    classifier = trained_classifier(args, data)

    chosen = np.random.default_rng(SEED).permutation(len(data.test_images))[: args.images]
    x, labels = data.test_images[chosen], data.test_labels[chosen].numpy()
    seconds: dict[str, dict[str, float]] = {}
    for key, seeds in vaes.items():
        for i, vae in enumerate(seeds):
            start = time.perf_counter()
            bounds = log_likelihood(
                vae.model,
                vae.guide,
                vae.here(data.test_images),
                seed=SEED,
                progress=f"{key}, seed {base + i}: 100 samples of the guide",
            )
            between = time.perf_counter()
            log_p = refined(vae, x, f"{key}, seed {base + i}: refined log p")
            if i == 0:
                seconds[key] = {
                    "seconds_for_1000_log_p_by_100": (between - start)
                    / len(data.test_images)
                    * 1000,
                    "seconds_for_1000_log_p_refined": (time.perf_counter() - between)
                    / len(x)
                    * 1000,
                }
            seeds[i] = vae._replace(bounds=bounds, refined=log_p)

    own = class_probabilities(classifier, data.test_images).argmax(1)
    metrics: dict = {
        "contenders": {key: contender._asdict() for key, contender in CONTENDERS.items()},
        "classifier": {"test_accuracy": float((own == data.test_labels.numpy()).mean())},
        "scores": scores(vaes, chosen, labels),
        "other_pixels": other_pixels(vaes, x[: max(10, args.images // 5)]),
        "overfitting": overfitting(vaes, data, chosen),
        "rate_distortion": rate_distortion(vaes, x, max(10, args.images // 10)),
        "units": units(vaes, data, x[: max(10, args.images // 5)], classifier),
        "robustness": robustness(vaes, x, labels, classifier),
        "usefulness": usefulness(vaes, data),
        "cost": cost(vaes, data, seconds),
    }
    metrics["samples"], shown = samples(
        vaes, data, classifier, count=min(10_000, 10 * args.images, len(data.test_images))
    )

    first = {key: seeds[0] for key, seeds in vaes.items()}
    images, difference = preferred(vaes, "d20", "d4", 10)
    rebuilt = {
        CONTENDERS[key].label: decode(
            first[key].model, posterior_moments(first[key].guide, x[images])[0]
        )
        for key in ("d4", "d20")
    }
    mapped = slice(min(3000, len(data.test_images)))
    maps = {
        CONTENDERS[key].label: TSNE(random_state=SEED).fit_transform(
            posterior_moments(vae.guide, data.test_images[mapped])[0].numpy()
        )
        for key, vae in tqdm(first.items(), desc="maps")
    }
    drawn = {
        key: unit_images(first[key], x[:1], metrics["units"][key]["order_of_first_seed"])
        for key in ("d4", "d20")
    }
    labels_of = {key: contender.label for key, contender in CONTENDERS.items()}
    figures: dict[str, Figure] = {
        "overview": overview_figure(metrics, labels_of),
        "preferences": preferences_figure(x[images], rebuilt, difference[images]),
        "units": units_figure(drawn, metrics["units"], labels_of),
        "samples": samples_figure(shown, metrics["samples"], labels_of),
        "maps": maps_figure(maps, data.test_labels[mapped].numpy()),
    }
    results.draw(**figures)
    results.training = {key: [vae.config for vae in seeds] for key, seeds in vaes.items()}
    for name, found in metrics.items():
        results.add(name, found)
    print(as_text(metrics))
    print(
        f"means over {args.seeds} trainings of each (standard deviation); "
        f"figures and metrics.json in {results.folder}"
    )


if __name__ == "__main__":
    run(main)
