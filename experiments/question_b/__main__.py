"""Question (b): log p(x) of an image, how far to trust it, and what makes an image likely.

The 100-sample estimate of every test image, as asked, and the most and least likely; beyond that
whether 100 samples are enough, which features explain the score, what changing an image does to it,
what lies outside the data, and what another likelihood of the pixels makes of it.

    python -m experiments.question_b
"""

import time
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor
from tqdm import tqdm

from experiments.cli import (
    announce_and_load,
    check_at_least,
    check_device,
    folder_name,
    make_parser,
    run,
)
from experiments.question_b.figures import (
    enough_figure,
    explained_figure,
    feature_figure,
    gallery,
    interventions_figure,
    pixels_figure,
    typical_figure,
)
from experiments.record import Results
from experiments.trained import Spec, load_or_train
from pyro_vae.analysis.explained import held_out_r2
from pyro_vae.analysis.features import FEATURES, entropy_floor, nearest_distance
from pyro_vae.analysis.interventions import (
    binarise,
    blur,
    deslant,
    resize,
    shear,
    shift,
    shuffle_pixels,
    thicken,
)
from pyro_vae.analysis.sampling import decode, pixel_samples, posterior_mean
from pyro_vae.data import Dataset, load_digits
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.annealing import annealed_log_likelihood, bidirectional_bounds
from pyro_vae.likelihood.estimate import Estimate, estimate, iwae
from pyro_vae.likelihood.importance import log_likelihood, log_weights
from pyro_vae.likelihood.intervals import mean_interval
from pyro_vae.likelihood.traces import Program
from pyro_vae.models import ContinuousBernoulli, Model

SEED = 2  # of everything drawn here; the training has its own
CURVE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

INTERVENTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "thicker by 1 pixel": lambda x: thicken(x, 1),
    "thicker by 2 pixels": lambda x: thicken(x, 2),
    "thinner by 1 pixel": lambda x: thicken(x, -1),
    "larger by 15%": lambda x: resize(x, 1.15),
    "smaller by 15%": lambda x: resize(x, 1 / 1.15),
    "leaning 0.25 to the right": lambda x: shear(x, 0.25),
    "leaning 0.25 to the left": lambda x: shear(x, -0.25),
    "set upright": deslant,
    "2 pixels to the right": lambda x: shift(x, 0, 2),
    "blurred, sigma 0.7": lambda x: blur(x, 0.7),
    "black and white": binarise,
}


class Vae(NamedTuple):
    """The autoencoder under study, with its device."""

    model: Model
    guide: MeanField
    device: torch.device

    def refined(self, x: Tensor, what: str | None, model: Program | None = None) -> Estimate:
        """log p(x) by 1,000 samples of the refined guide, under `model` if it is another."""
        model = model or self.model
        guide = Refined(model, self.guide)
        return log_likelihood(
            model, guide, x.to(self.device), num_samples=1000, seed=SEED, progress=what
        )


# ---------------------------------------------------------------- likely and unlikely images


def extremes(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Indices of the 10 likeliest and 10 unlikeliest images; and of 4 and 4 of every digit."""
    order = np.argsort(-scores)
    by_digit = {}
    for digit in range(10):
        own = order[labels[order] == digit]
        by_digit[digit] = np.concatenate([own[:4], own[-4:]])
    return np.concatenate([order[:10], order[-10:]]), by_digit


def likely_and_unlikely(
    vae: Vae, data: Dataset, amortised: Estimate, candidates: int
) -> tuple[dict[str, Figure], dict]:
    """The most and least likely test images by the 100-sample estimate, overall and per digit.

    And those by the refined guide, among the `candidates` that 100 samples place highest and three
    times as many that they place lowest: 100 samples err downwards, by far more than upwards.
    """
    labels = data.test_labels.numpy()
    overall, by_digit = extremes(amortised.value, labels)
    order = np.argsort(-amortised.value)
    first, last = order[:candidates], order[-3 * candidates :]
    shown = np.unique(np.concatenate([overall, first, last, *by_digit.values()]))
    again = vae.refined(data.test_images[shown], "refined log p of likely and unlikely images")
    refined = {
        int(i): (float(value), float(se))
        for i, value, se in zip(shown, again.value, again.se, strict=True)
    }
    likeliest = sorted(first, key=lambda i: -refined[int(i)][0])[:10]
    unlikeliest = sorted(last, key=lambda i: -refined[int(i)][0])[-10:]
    under = (
        "above: 100 samples of the encoder's guide; below: 1,000 of the refined guide\n"
        "(nats, ± standard error)"
    )
    figures = {
        "likely_unlikely": gallery(
            data.test_images,
            {
                "likely by\n100 samples": overall[:10],
                "likely by the\nrefined guide": likeliest,
                "unlikely by\n100 samples": overall[10:],
                "unlikely by the\nrefined guide": unlikeliest,
            },
            amortised,
            refined,
            f"The likeliest and the unlikeliest of {len(labels):,} test images\n{under}",
        ),
        "by_digit": gallery(
            data.test_images,
            {str(digit): indices for digit, indices in by_digit.items()},
            amortised,
            refined,
            f"Each digit: the 4 likeliest images (left) and the 4 unlikeliest (right)\n{under}",
        ),
    }

    def record(i: int) -> dict:
        return {
            "image": int(i),
            "digit": int(labels[i]),
            "score": float(amortised.value[i]),
            "se": float(amortised.se[i]),
            "khat": float(amortised.khat[i]),
            "refined": refined[int(i)][0],
            "refined_se": refined[int(i)][1],
        }

    digits = {
        str(digit): {
            "mean": float(amortised.value[labels == digit].mean()),
            "sd": float(amortised.value[labels == digit].std(ddof=1)),
            "likely": [record(i) for i in indices[:4]],
            "unlikely": [record(i) for i in indices[4:]],
        }
        for digit, indices in by_digit.items()
    }
    quantiles = np.quantile(amortised.value, [0.01, 0.25, 0.5, 0.75, 0.99])
    metrics = {
        "summary": amortised.summary() | {"pixels": "grey (surrogate score)"},
        "sd_over_images": float(amortised.value.std(ddof=1)),
        "quantiles_1_25_50_75_99": quantiles.tolist(),
        "likely": [record(i) for i in overall[:10]],
        "unlikely": [record(i) for i in overall[10:]],
        "likely_refined": [record(i) for i in likeliest],
        "unlikely_refined": [record(i) for i in unlikeliest],
        "unlikely_in_both": len({*overall[10:]} & {*unlikeliest}),
        # an image beyond the candidates belongs here only if 100 samples are off by more:
        # if they underrate it (likely), if they overrate it (unlikely)
        "room_beyond_candidates": {
            "likely": refined[int(likeliest[-1])][0] - float(amortised.value[first[-1]]),
            "unlikely": float(amortised.value[last[0]]) - refined[int(unlikeliest[0])][0],
        },
        "digits": digits,
        "refined_share_trusted": float(again.trusted().mean()),
    }
    return figures, metrics


# ---------------------------------------------------------------- are 100 samples enough?


def enough(
    vae: Vae, x: Tensor, first: Estimate, annealed_images: int
) -> tuple[Figure, dict, Estimate]:
    """The curve from 1 to 5,000 samples, against the refined guide and annealing.

    `first` holds the 100-sample estimates of the images `x`.
    """
    start = time.perf_counter()
    log_w = log_weights(
        vae.model,
        vae.guide,
        x.to(vae.device),
        num_samples=CURVE[-1],
        seed=SEED,
        progress=f"{CURVE[-1]:,} samples of the guide",
    )
    guide_seconds = time.perf_counter() - start
    last = estimate(log_w)
    start = time.perf_counter()
    refined = vae.refined(x, "refined log p")
    refined_seconds = time.perf_counter() - start
    curve = [float(iwae(log_w, k).mean()) for k in CURVE]
    trusted = {k: float(estimate(log_w[:k]).trusted().mean()) for k in CURVE if k >= 50}

    some = x[:annealed_images].to(vae.device)
    annealed = annealed_log_likelihood(
        vae.model,
        vae.guide,
        some,
        num_chains=32,
        seed=SEED,
        progress="annealing, a pilot and a run",
    )
    near = refined.subset(slice(annealed_images))
    doubtful = np.abs(z_scores(near, annealed)) > 4
    bounds = bidirectional_bounds(
        vae.model,
        vae.guide,
        some[: max(2, len(some) // 4)],
        seed=SEED,
        progress="annealing both ways, simulated images",
    )
    simulated = vae.refined(bounds.images, "refined log p of simulated images")

    metrics = {
        "iwae": {"num_samples": list(CURVE), "mean": curve},
        "share_trusted": {str(k): share for k, share in trusted.items()},
        "guide_5000": last.summary(),
        "refined": refined.summary() | {"pixels": "grey (surrogate score)"},
        "refined_minus_guide_5000": mean_interval(refined.value - last.value),
        "refined_minus_guide_100": mean_interval(refined.value - first.value),
        "error_bars_of_100_hold_refined": coverage(first, refined),
        "rank_correlation_100_refined": spearman(first.value, refined.value),
        # of the variance of the 100-sample scores: what they owe to their own errors
        "share_of_variance": float((refined.value - first.value).var() / first.value.var()),
        "annealed": annealed.summary() | {"estimator": "annealed importance sampling"},
        "refined_minus_annealed": mean_interval(near.value - annealed.value)
        | agreement(near, annealed),
        "median_refined_minus_annealed": float(np.median(near.value - annealed.value)),
        "doubtful": doubtful_images(vae, some, near, annealed, doubtful),
        "simulated": {
            "lower": float(bounds.lower.value.mean()),
            "upper": float(-bounds.upper.value.mean()),
            "refined": float(simulated.value.mean()),
            "upper_minus_lower": mean_interval(-bounds.upper.value - bounds.lower.value),
            "refined_minus_lower": mean_interval(simulated.value - bounds.lower.value),
            "upper_minus_refined": mean_interval(-bounds.upper.value - simulated.value),
        },
        "seconds": {"guide_5000": guide_seconds, "refined": refined_seconds},
    }
    return enough_figure(first, refined, annealed, metrics), metrics, refined


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The rank correlation; NaN where one of them is constant."""
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else np.nan


def coverage(rough: Estimate, fine: Estimate) -> float:
    """The share of images whose 95% interval by `rough` holds the value of `fine`."""
    return float((np.abs(z_scores(rough, fine)) <= 1.96).mean())


def z_scores(one: Estimate, other: Estimate) -> np.ndarray:
    """Differences in units of their own standard errors: about N(0, 1) where both are right."""
    return (one.value - other.value) / np.hypot(one.se, other.se)


def agreement(one: Estimate, other: Estimate) -> dict:
    """How far two estimates of the same images differ beside what their errors allow."""
    z = z_scores(one, other)
    return {
        "share_within_2_se": float((np.abs(z) <= 2).mean()),
        "median_abs_in_se": float(np.median(np.abs(z))),
        "mc_se": float(np.sqrt((one.se**2 + other.se**2).sum()) / len(z)),
    }


def doubtful_images(
    vae: Vae, x: Tensor, refined: Estimate, annealed: Estimate, doubtful: np.ndarray
) -> list[dict]:
    """Where the two differ by more than 4 standard errors: annealing again, now from the prior.

    Chains that all start in the guide's mode may never find another; those from the prior may.
    """
    where = np.flatnonzero(doubtful)
    if len(where) == 0:
        return []
    again = annealed_log_likelihood(
        vae.model,
        None,
        x[torch.from_numpy(where).to(x.device)],
        num_chains=64,
        num_steps=200,
        seed=SEED,
        progress="annealing of doubtful images, from the prior",
    )
    return [
        {
            "image": int(i),  # of those annealed
            "refined": float(refined.value[i]),
            "annealed_from_guide": float(annealed.value[i]),
            "annealed_from_prior": float(again.value[n]),
            "se_from_prior": float(again.se[n]),
        }
        for n, i in enumerate(where)
    ]


# ---------------------------------------------------------------- which features explain it?


def explain(
    vae: Vae, data: Dataset, amortised: Estimate
) -> tuple[dict[str, Figure], dict, dict[str, np.ndarray]]:
    """Explained variance of the score and of its excess over the floor, on held-out images."""
    x, labels = data.test_images, data.test_labels.numpy()
    features = {name: function(x) for name, function in tqdm(FEATURES.items(), desc="features")}
    features["class"] = labels.astype(float)
    features["nearest training image"] = nearest_distance(x, data.train_images)
    mean, ess = posterior_mean(vae.model, vae.guide, x.to(vae.device), seed=SEED)
    features["latent's distance from 0"] = mean.norm(dim=1).double().cpu().numpy()
    rebuilt = torch.cat([decode(vae.model, z) for z in mean.split(500)]).cpu()
    features["reconstruction error"] = (x - rebuilt).square().sum((1, 2, 3)).double().numpy()

    targets = {"score": amortised.value, "excess": -amortised.value - features["entropy floor"]}
    held_out = np.zeros(len(x), bool)
    held_out[np.random.default_rng(SEED).permutation(len(x))[: len(x) // 4]] = True
    drawn = [*FEATURES, "class"]  # what can be seen on the image itself
    groups = {
        "features of the image": drawn,
        "and nearest training image": [*drawn, "nearest training image"],
        "and the model's own": list(features),
    }

    def share(names: list[str], target: np.ndarray) -> dict:
        chosen = {name: features[name] for name in names}
        kinds = ("class",) if "class" in names else ()
        return held_out_r2(chosen, target, held_out, kinds, SEED)._asdict()

    metrics: dict = {
        "images": len(x),
        "held_out": int(held_out.sum()),
        "posterior_mean_median_ess_of_100": float(ess.median()),
    }
    for target_name, target in targets.items():
        alone = {name: share([name], target) for name in tqdm(features, desc=target_name)}
        joint = {name: share(names, target) for name, names in groups.items()}
        without = {
            name: share([other for other in drawn if other != name], target)["share"]
            for name in drawn
        }
        whole = joint["features of the image"]["share"]
        metrics[target_name] = {
            "alone": alone,
            "joint": joint,
            "lost_without": {name: whole - rest for name, rest in without.items()},
            "spearman": {
                name: spearman(value, target) for name, value in features.items() if name != "class"
            },
        }
    figures = {
        "explained": explained_figure(metrics),
        "features": feature_figure(features, amortised.value, labels),
    }
    return figures, metrics, features


# ---------------------------------------------------------------- interventions


def intervene(vae: Vae, x: Tensor) -> tuple[Figure, dict]:
    """The same images changed on purpose: how score, floor and excess move, paired."""
    before = vae.refined(x, "as they are")
    floor = entropy_floor(x)
    metrics: dict = {
        "unchanged": {"mean": float(before.value.mean()), "floor": float(floor.mean())},
        "images": len(x),
    }
    shown = int(np.argsort(before.value)[len(x) // 2])  # of median score
    strip, changes = [(x[shown], before.value[shown])], {}
    for name, change in INTERVENTIONS.items():
        changed = change(x)
        after = vae.refined(changed, name)
        strip.append((changed[shown], after.value[shown]))
        floor_change = entropy_floor(changed) - floor
        score_change = after.value - before.value
        changes[name] = {
            "score": mean_interval(score_change),
            "from_the_floor": mean_interval(-floor_change),
            "from_the_excess": mean_interval(score_change + floor_change),
            "share_trusted": float(after.trusted().mean()),
        }
    metrics["changes"] = changes

    return interventions_figure(strip, metrics), metrics


# ---------------------------------------------------------------- likely is not typical


def outsiders(vae: Vae, data: Dataset, x: Tensor) -> dict[str, Tensor]:
    """As many images as the test images `x` in each of several sets that are not test images."""
    rng = torch.Generator().manual_seed(SEED)
    count = len(x)
    z = torch.randn(count, vae.model.decoder.latent_dim, generator=rng).to(vae.device)
    means = decode(vae.model, z).cpu()
    return {
        "blank image": torch.zeros_like(x[:1]),
        "mean training image": data.train_images.mean(0, keepdim=True),
        "model: mean images": means,
        "model: drawn pixels": pixel_samples(means, SEED),
        "training images": data.train_images[:count],
        "test images": x,
        "test images, binarised": torch.bernoulli(x, generator=rng),
        "shifted by 4 pixels": shift(x, 4, 4),
        "upside down": x.flip(2),
        "scikit-learn's digits": load_digits().test_images[:count],
        "pixels shuffled": shuffle_pixels(x, SEED),
        "uniform noise": torch.rand(x.shape, generator=rng),
        "inverted": 1 - x,
    }


def likely_is_not_typical(
    vae: Vae, data: Dataset, x: Tensor, reference: np.ndarray
) -> tuple[Figure, dict]:
    """Scores of test images `x` and of other sets beside those of more test images, `reference`."""
    sets = outsiders(vae, data, x)
    estimates = {name: vae.refined(x, name) for name, x in sets.items()}
    reference = np.sort(reference)
    metrics = {}
    for name, found in estimates.items():
        metrics[name] = {
            "mean": float(found.value.mean()),
            "median": float(np.median(found.value)),
            "min": float(found.value.min()),
            "max": float(found.value.max()),
            "floor": float(entropy_floor(sets[name]).mean()),
            "images": len(found.value),
            "share_trusted": float(found.trusted().mean()),
            # the chance that one of them beats a test image: 50% where the two are alike
            "likelier_than_a_test_image": float(
                (np.searchsorted(reference, found.value) / len(reference)).mean()
            ),
        }
    scores = {name: found.value for name, found in estimates.items()}
    return typical_figure(sets, scores, reference), metrics


# ---------------------------------------------------------------- other likelihoods of the pixels


def other_pixels(
    vae: Vae, x: Tensor, grey: Estimate, features: dict[str, np.ndarray], copies: int = 3
) -> tuple[Figure, dict]:
    """The ranking of images `x` under grey, binarised and continuous-Bernoulli pixels.

    One generator throughout: what changes is p(x | z) alone. `grey` are the scores of `x`.
    """
    rng = torch.Generator().manual_seed(SEED)
    binarised = [
        vae.refined(torch.bernoulli(x, generator=rng), f"binarised, copy {copy + 1}")
        for copy in range(copies)
    ]
    continuous_model = Model(vae.model.decoder, ContinuousBernoulli, vae.model.prior)
    continuous = vae.refined(x, "continuous Bernoulli", continuous_model)
    scores = {
        "grey": grey.value,
        "binarised": np.mean([found.value for found in binarised], axis=0),
        "continuous": continuous.value,
    }
    trusted = {
        "grey": grey.trusted().mean(),
        "binarised": np.mean([found.trusted().mean() for found in binarised]),
        "continuous": continuous.trusted().mean(),
    }
    names = {
        "grey": "grey (surrogate)",
        "binarised": f"binarised (mean of {copies} copies)",
        "continuous": "continuous Bernoulli (density)",
    }
    tenth = max(1, len(x) // 10)
    metrics: dict = {"images": len(x), "copies": copies}
    for name, value in scores.items():
        metrics[name] = {
            "mean": float(value.mean()),
            "sd": float(value.std(ddof=1)),
            "share_trusted": float(trusted[name]),
            "spearman_with": {
                feature: spearman(column, value)
                for feature, column in features.items()
                if feature != "class"
            },
        }
    for first, second in combinations(scores, 2):
        metrics[f"{first} and {second}"] = {
            "spearman": spearman(scores[first], scores[second]),
            "unlikeliest_tenth_shared": share_shared(scores[first], scores[second], tenth),
            "likeliest_tenth_shared": share_shared(-scores[first], -scores[second], tenth),
        }
    metrics["mean_of_binarised_minus_grey"] = mean_interval(scores["binarised"] - scores["grey"])

    return pixels_figure(x, scores, names, metrics), metrics


def share_shared(first: np.ndarray, second: np.ndarray, count: int) -> float:
    """Of the images with the `count` lowest values of each, the share that both have."""
    lowest = set(np.argsort(first)[:count]) & set(np.argsort(second)[:count])
    return len(lowest) / count


# ---------------------------------------------------------------- the whole


def main() -> None:
    """Train or load the autoencoder, score the test images, draw the figures, write the metrics."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--images",
        type=int,
        default=1000,
        metavar="N",
        help="test images in the investigation beyond the 100-sample estimate",
    )
    args = parser.parse_args()
    check_at_least("--images", args.images, 20)
    data = announce_and_load(
        args,
        "question (b): log p(x) of every test image, and what makes one likely. About 20 minutes "
        "on 2 cores with a trained checkpoint; --images 200 takes about 6.",
    )
    device = check_device(args.device)
    results = Results(args, data, folder_name(args, "question_b"))
    trained = load_or_train(args, data, Spec(args.latent_dim), path=args.checkpoint)
    results.training = trained.config
    model, guide = trained.model, trained.guide
    vae = Vae(model, guide, device)

    figures: dict[str, Figure] = {}
    metrics: dict[str, dict] = {}
    amortised = log_likelihood(
        model,
        guide,
        data.test_images.to(device),
        num_samples=100,
        seed=SEED,
        progress="100 samples of the guide",
    )
    shown, metrics["guide_100"] = likely_and_unlikely(
        vae, data, amortised, candidates=max(10, args.images // 10)
    )
    explained, metrics["explained"], features = explain(vae, data, amortised)
    figures |= shown | explained

    # a random choice: the first half of MNIST's test images are the tidier ones
    rng = np.random.default_rng(SEED)
    chosen = rng.permutation(len(data.test_images))[: args.images]
    x = data.test_images[chosen]
    figures["enough"], metrics["enough"], refined = enough(
        vae, x, amortised.subset(chosen), args.images // 10
    )
    figures["interventions"], metrics["interventions"] = intervene(vae, x[: args.images // 10])
    figures["typical"], metrics["typical"] = likely_is_not_typical(
        vae, data, x[: max(2, args.images // 20)], refined.value
    )
    part = slice(0, max(12, args.images // 5))
    figures["pixels"], metrics["pixels"] = other_pixels(
        vae,
        x[part],
        refined.subset(part),
        {name: value[chosen][part] for name, value in features.items()},
    )

    results.draw(**figures)
    for name, found in metrics.items():
        results.add(name, found)
    print(
        f"mean score by 100 samples {amortised.value.mean():.2f}, of {len(x)} images by the "
        f"refined guide {refined.value.mean():.2f} nats per image; figures and metrics.json in "
        f"{results.folder}"
    )


if __name__ == "__main__":
    run(main)
