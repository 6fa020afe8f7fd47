"""Question (d): style and digit apart, X = f(Z, y).

The perfect sampling distribution, shown at d = 2; sets of digits in one style, from the prior and
from real images; what z and y each carry, measured; classification by Bayes' rule; what the label
is worth in nats; and failures made on purpose, which the measures must catch.

    python -m experiments.question_d
"""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from scipy.special import logsumexp
from torch import Tensor

from experiments.cli import (
    announce_and_load,
    check_at_least,
    check_device,
    folder_name,
    make_parser,
    run,
)
from experiments.question_d.figures import (
    classification_figure,
    digits_figure,
    failures_figure,
    information_figure,
    mistakes_figure,
    styles_figure,
    theory_figure,
    transfer_figure,
    units_figure,
    ways_figure,
)
from experiments.record import Results
from experiments.trained import Spec, load_or_train, trained_classifier
from pyro_vae.analysis.active_units import ACTIVE_VARIANCE
from pyro_vae.analysis.classification import (
    class_log_likelihoods,
    label_mutual_information,
    label_probabilities,
    reliability,
)
from pyro_vae.analysis.features import height, slant, stroke_width, width
from pyro_vae.analysis.judges import Classifier, class_probabilities
from pyro_vae.analysis.probes import linear_probe, neighbour_probe, tree_probe
from pyro_vae.analysis.sampling import decode_style, encode_style, posterior_samples
from pyro_vae.analysis.style import shared_correlation, shared_interval, shuffled, style_correlation
from pyro_vae.data import Dataset
from pyro_vae.guides import AMORTISED
from pyro_vae.guides.exact import ExactGuide
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.guides.semi_amortised import maximise_elbo
from pyro_vae.likelihood.estimate import Estimate, estimate
from pyro_vae.likelihood.importance import log_weights
from pyro_vae.likelihood.intervals import mcnemar, mean_interval, proportion_interval
from pyro_vae.likelihood.quadrature import integrate_plane
from pyro_vae.likelihood.traces import Program
from pyro_vae.training.fit import fit
from pyro_vae.vae import BUILD, Vae

SEED = 5  # of everything drawn here; the training has its own
DIM, EPOCHS = 10, 40  # latent dimensions and epochs, unless asked otherwise
GRID = {"points": 201, "half_width": 9.0}  # trained for little, a posterior lies far from its prior
PROBED = 20_000  # training images that the readers of styles are fitted to
DRAWS = 16  # of the guide, where the mean and the spread of a style are wanted
STYLE_FEATURES = {"stroke width": stroke_width, "slant": slant, "height": height, "width": width}
EDGES = np.array([0.1, 0.5, 0.8, 0.95, 0.99, 0.999, 0.9999, 1.0])


def every_digit(style: Tensor) -> tuple[Tensor, Tensor]:
    """Styles `(B, d)`, each with each of ten labels: `(10 B, d)` and `(10 B,)`, y the faster."""
    return style.repeat_interleave(10, 0), torch.arange(10).repeat(len(style))


def draw_styles(vae: Vae, count: int, seed: int = SEED) -> Tensor:
    """e ~ N(0, I), `(count, d)`."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, vae.model.decoder.latent_dim, generator=rng)


def refined_log_p(vae: Vae, what: str, *batch: Tensor) -> Estimate:
    """Estimate log p(x | y), or log p(x), from 1,000 samples of the refined guide."""
    return vae.refined().log_likelihood(*batch, num_samples=1000, seed=SEED, progress=what)


# ---------------------------------------------------------------- the perfect distribution


def theory(vae: Vae, data: Dataset, count: int = 4) -> tuple[Figure, dict]:
    """At d = 2: weights under the exact posterior are constant, and equal p(x | y)."""
    print("theory: weights under the exact posterior, by quadrature at d = 2")
    x, y = data.test_images[:count], data.test_labels[:count]
    batch = vae.here(x, y)
    plane = integrate_plane(vae.model, *batch, **GRID)
    log_p = plane.log_evidence.numpy()
    exact = ExactGuide(vae.model, **GRID)
    perfect = log_weights(vae.model, exact, *batch, num_samples=1000, seed=SEED)
    coarse = ExactGuide(vae.model, **GRID | {"points": GRID["points"] // 2 + 1})
    coarse = log_weights(vae.model, coarse, *batch, num_samples=1000, seed=SEED)
    guided = log_weights(vae.model, vae.guide, *batch, num_samples=1000, seed=SEED)
    drawn, ess = posterior_samples(
        vae.model, vae.refined().guide, *batch, num_draws=400, num_samples=5000, seed=SEED
    )
    mean, sd = plane.moments()
    # of the mean of 400 draws, in standard errors of it
    apart = ((drawn.double().mean(0) - mean) / (sd / np.sqrt(len(drawn)))).abs()
    metrics = {
        "images": count,
        "log_p_by_quadrature": log_p.tolist(),
        "log_p_by_perfect_samples": estimate(perfect).value.tolist(),
        "largest_difference_of_the_two": float(np.abs(estimate(perfect).value - log_p).max()),
        "sd_of_log_weights": {
            "perfect": perfect.std(0).tolist(),
            "perfect_twice_the_step": coarse.std(0).tolist(),
            "guide": guided.std(0).tolist(),
        },
        "largest_error_of_one_perfect_weight": float((perfect - plane.log_evidence).abs().max()),
        "resampled_effective_sample_size_of_5000": ess.tolist(),
        "resampled_mean_off_in_se": apart.tolist(),
        "resampled_sd_to_exact": (drawn.double().std(0) / sd).tolist(),
    }
    spread = torch.stack([mean - 4.5 * sd, mean + 4.5 * sd], -1)  # (B, 2, 2)
    figure = theory_figure(x, y, plane, spread, drawn, perfect, guided)
    return figure, metrics


# ---------------------------------------------------------------- pictures


def style_sets(vae: Vae, data: Dataset, chosen: np.ndarray) -> dict[str, Figure]:
    """Four styles over ten digits: from the prior, and from the posteriors of four real images."""
    sets = decode_style(vae.model, *every_digit(draw_styles(vae, 4))).unflatten(0, (4, 10))
    x, y = data.test_images[chosen], data.test_labels[chosen]
    batch = vae.here(x, y)
    guide = vae.refined().guide
    own, _ = posterior_samples(vae.model, guide, *batch, num_draws=1, seed=SEED)
    with torch.no_grad():
        styles = vae.model.prior.style(own[0], batch[1]).cpu()
    transferred = decode_style(vae.model, *every_digit(styles)).unflatten(0, (4, 10))
    return {
        "styles": styles_figure(sets),
        "transfer": transfer_figure(x, y.tolist(), transferred),
    }


def digit_samples(vae: Vae, classifier: Classifier) -> tuple[Figure, dict]:
    """Ten random styles of every digit, with what the classifier reads where it reads another."""
    y = torch.arange(10).repeat_interleave(10)
    images = decode_style(vae.model, draw_styles(vae, 100, seed=SEED + 1), y)
    read = class_probabilities(classifier, images).argmax(1)
    metrics = {"images": len(y), "read_as_y": int((read == y.numpy()).sum())}
    return digits_figure(images.unflatten(0, (10, 10)), read.reshape(10, 10)), metrics


def style_ways(vae: Vae, data: Dataset, pairs: list[tuple[int, int]]) -> Figure:
    """From one image's style to another's of the same digit, at fixed y."""
    rows, digits = [], []
    for pair in pairs:
        x, y = data.test_images[list(pair)], data.test_labels[list(pair)]
        ends = encode_style(vae.model, vae.guide, x, y, num_samples=DRAWS, seed=SEED).mean(0)
        styles = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 9)[:, None])
        way = decode_style(vae.model, styles, y[:1].repeat(9))
        rows.append(torch.cat([x[:1], way, x[1:]]))
        digits.append(int(y[0]))
    return ways_figure(rows, digits)


def active_units(vae: Vae, data: Dataset) -> tuple[Figure, dict]:
    """What each of the most used dimensions does to two digits, and how much each is used."""
    rows = (data.test_images, data.test_labels)
    styles = encode_style(vae.model, vae.guide, *rows, num_samples=DRAWS, seed=SEED)
    # of the posterior means; what the noise of so few draws adds to it is taken off
    activity = styles.mean(0).var(0) - styles.var(0).mean(0) / DRAWS
    activity, order = activity.sort(descending=True)
    steps = torch.linspace(-2.5, 2.5, 7)
    images = {}
    for digit in (2, 4):
        rows = []
        for unit in order[:6].tolist():
            styles = torch.zeros(7, len(order))
            styles[:, unit] = steps
            rows.append(decode_style(vae.model, styles, torch.full((7,), digit)))
        images[digit] = torch.stack(rows)
    metrics = {"activity": activity.tolist(), "active": int((activity > ACTIVE_VARIANCE).sum())}
    return units_figure(images, steps.tolist(), activity.tolist()), metrics


# ---------------------------------------------------------------- what z and y carry


def measures(vae: Vae, data: Dataset, classifier: Classifier, count: int) -> dict:
    """Does y say which digit, the style nothing of it, and is it one style for all ten?

    `count` images say whether y is drawn, ten for each of count / 20 styles whether a style is one.
    The probes are fitted to one z ~ q(z | x, y) of each of some training images, and tried on the
    test images'; and the same of the styles e = T_y^-1(z). It is
    e that is the Z of X = f(Z, y): it is N(0, I) for every label, and all ten digits can be drawn
    from it. The z of a learned prior p(z | y) is not free of the label, nor meant to be.
    """
    print("measures: is y drawn, do readers find the label in the style, is it one style for all?")
    y = torch.arange(count) % 10
    images = decode_style(vae.model, draw_styles(vae, count, seed=SEED + 2), y)
    read = class_probabilities(classifier, images).argmax(1)
    right = read == y.numpy()

    seen = codes(vae, data.train_images[:PROBED], data.train_labels[:PROBED])
    unseen = codes(vae, data.test_images, data.test_labels)
    labels = (data.train_labels[:PROBED], data.test_labels)

    kinds = count // 20
    images = decode_style(vae.model, *every_digit(draw_styles(vae, kinds, seed=SEED + 3)))
    real, digit = data.test_images[:count], data.test_labels[:count].numpy()
    shared = {}
    for name, feature in STYLE_FEATURES.items():
        values, known = feature(images).reshape(kinds, 10), feature(real)
        shared[name] = {
            "shared": shared_correlation(values),
            "shared_ci95": shared_interval(values),
            "shuffled_sd": float(
                np.std([shared_correlation(shuffled(values, seed)) for seed in range(20)])
            ),
            # how much a feature varies among images of one digit, drawn and real
            "sd_within_digit": float(values.std(0).mean()),
            "sd_within_digit_real": float(
                np.mean([known[digit == one].std() for one in np.unique(digit)])
            ),
        }
    return {
        "generated": proportion_interval(right)
        | {"by_digit": [float(right[y.numpy() == digit].mean()) for digit in range(10)]},
        "read_as": np.array(
            [np.bincount(read[y.numpy() == digit], minlength=10) for digit in range(10)]
        ).tolist(),
        "probes": probes(seen[0], labels[0], unseen[0], labels[1]),
        "probes_of_z": probes(seen[1], labels[0], unseen[1], labels[1]),
        "styles": kinds,
        "consistency": shared,
    }


def transfer(vae: Vae, data: Dataset, count: int) -> dict:
    """Do other digits in the style of a real image share its features? Of `count` test images."""
    x, y = data.test_images[:count], data.test_labels[:count]
    styles = encode_style(vae.model, vae.guide, x, y, num_samples=1, seed=SEED)[0]
    images = decode_style(vae.model, *every_digit(styles))
    found = {
        name: style_correlation(feature(x), feature(images).reshape(-1, 10), y.numpy())
        for name, feature in STYLE_FEATURES.items()
    }
    return {"images": len(x), **found}


def codes(vae: Vae, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """One style e and its latent z = T_y(e), z ~ q(z | x, y), of each image: `(B, d)` each."""
    styles = encode_style(vae.model, vae.guide, x, y, num_samples=1, seed=SEED)[0]
    with torch.no_grad():
        return styles, vae.model.prior.latent(styles.to(vae.device), y.to(vae.device)).cpu()


def probes(z: Tensor, y: Tensor, other_z: Tensor, other_y: Tensor) -> dict:
    """How well three readers, fitted to latents `z` and labels `y`, tell the label of others."""
    rows = (z.double().numpy(), y.numpy(), other_z.double().numpy(), other_y.numpy())
    linear, linear_nats = linear_probe(*rows)
    trees, tree_nats = tree_probe(*rows)
    found = {"linear": linear, "neighbours": neighbour_probe(*rows), "trees": trees}
    best = max(found.values())
    return {
        "fitted_to": len(y),
        "images": len(other_y),
        "largest_class": float(np.bincount(other_y).max() / len(other_y)),
        **found,
        "best": best,
        "best_se": float(np.sqrt(best * (1 - best) / len(other_y))),
        "information_nats_at_least": max(linear_nats, tree_nats),
    }


# ---------------------------------------------------------------- classification by Bayes' rule


def with_local_steps(vae: Vae, steps: int = 8) -> Program:
    """The guide, its numbers moved by steps up the ELBO of each image with the label it is given.

    Right or wrong, so that a wrong label, which no encoder was trained for, gets its chance too.
    """

    def guide(x: Tensor, y: Tensor) -> None:
        numbers = maximise_elbo(vae.model, vae.guide, vae.guide.encoder(x, y), [x, y], steps)
        with pyro.plate("data", len(x)):
            pyro.sample("z", vae.guide.distribution(numbers))

    return guide


def table_of(found: list[Estimate], part: str = "value") -> np.ndarray:
    """One number of each label's estimates: `(B, 10)`."""
    return np.column_stack([getattr(one, part) for one in found])


def classify(
    vae: Vae, data: Dataset, classifier: Classifier, few: int, doubtful: int
) -> tuple[dict[str, Figure], dict, np.ndarray]:
    """p(y | x) of all test images by the same estimator, and what samples and guide change.

    Also returns log p(x | y), `(B, 10)`: by 100 samples, and by the refined guide where it matters.
    """
    x, labels = data.test_images, data.test_labels.numpy()

    def scores(
        images: Tensor, num_samples: int, what: str, guide: Program = vae.guide
    ) -> list[Estimate]:
        images = images.to(vae.device)
        options = {"num_samples": num_samples, "seed": SEED, "progress": f"Bayes' rule, {what}"}
        return class_log_likelihoods(vae.model, guide, images, **options)

    tables = {str(k): table_of(scores(x, k, f"{k} samples")) for k in (1, 10)}
    found = scores(x, 100, "100 samples")
    log_p = table_of(found)
    tables |= {"100": log_p, "elbo": table_of(found, "elbo")}
    tables["local"] = table_of(scores(x, 100, "100 samples, local steps", with_local_steps(vae)))
    own, other = own_and_others(np.column_stack([one.trusted() for one in found]), labels)
    metrics: dict = {
        "images": len(labels),
        "by_samples": {k: accuracy_of(table, labels) for k, table in tables.items()},
        "share_trusted_own_label": float(own.mean()),
        "share_trusted_other_labels": float(other.mean()),
    }
    mixed, metrics["with_refined"] = scored_again(vae, data, log_p, doubtful)
    right = {k: table.argmax(1) == labels for k, table in (tables | {"refined": mixed}).items()}
    metrics["changes_from_100"] = {
        k: mcnemar(right["100"], one) for k, one in right.items() if k != "100"
    }

    # all ten labels by the refined guide, for a random choice of images
    chosen = np.random.default_rng(SEED).permutation(len(labels))[:few]
    every = refined_log_p(
        vae,
        "refined log p(x | y), every label",
        x[chosen].repeat_interleave(10, 0),
        torch.arange(10).repeat(len(chosen)),
    )
    tight, loose, y = every.value.reshape(-1, 10), log_p[chosen], labels[chosen]
    own, other = own_and_others(tight - loose, y)
    runner_up = own_and_others(loose, y)[1].argmax(1)
    metrics["every_label_refined"] = {
        **accuracy_of(tight, y),
        "by_100_samples": accuracy_of(loose, y),
        "information": label_mutual_information(tight, y),
        "information_by_100_samples": label_mutual_information(loose, y),
        "share_trusted": float(every.trusted().mean()),
        # what 100 samples of the guide miss
        "rise_own_label": mean_interval(own),
        "rise_best_other_label": mean_interval(other[np.arange(len(y)), runner_up]),
        "rise_other_labels": mean_interval(other.mean(1)),
    }

    # black and white pixels, of which p(x | y) is a probability
    binary = torch.bernoulli(x, generator=torch.Generator().manual_seed(SEED))
    table = table_of(scores(binary, 100, "binarised images"))
    metrics["binarised"] = accuracy_of(table, labels) | {
        "information": label_mutual_information(table, labels),
        "calibration": reliability(label_probabilities(table), labels, EDGES),
    }

    p = label_probabilities(mixed)
    judge = class_probabilities(classifier, x)
    metrics["classifier"] = accuracy_of(np.log(judge.clip(1e-30)), labels)
    metrics["calibration"] = {
        "bayes": reliability(p, labels, EDGES),
        "classifier": reliability(judge, labels, EDGES),
    }
    metrics["information"] = label_mutual_information(mixed, labels)
    lead = leads(mixed)
    wrong = np.flatnonzero(~right["refined"])
    metrics["mistakes"] = [
        {
            "image": int(i),
            "digit": int(labels[i]),
            "read_as": int(p[i].argmax()),
            "lead_nats": float(lead[i]),
            "classifier": int(judge[i].argmax()),
        }
        for i in wrong[np.argsort(-lead[wrong])]
    ]
    figures = {
        "classification": classification_figure(metrics),
        "mistakes": mistakes_figure(x, metrics["mistakes"][:24], len(wrong)),
    }
    return figures, metrics, mixed


def scored_again(
    vae: Vae, data: Dataset, log_p: np.ndarray, doubtful: int
) -> tuple[np.ndarray, dict]:
    """`log_p`, `(B, 10)`, with the three labels that lead scored by the refined guide, in part.

    Namely of the `doubtful` images, whose first label leads the second by least; of the others that
    are misread, at most as many; and of half as many that are read right, drawn at random, which
    say how many of those that are not scored again would be spoilt.
    """
    labels = data.test_labels.numpy()
    ranked = np.argsort(-log_p, 1)
    lead = leads(log_p)
    order = np.argsort(lead)
    close, clear = order[:doubtful], order[doubtful:]
    before = ranked[:, 0] == labels
    right, wrong = (
        np.random.default_rng(SEED).permutation(some)
        for some in (clear[before[clear]], clear[~before[clear]])
    )
    checked, retried = right[: doubtful // 2], wrong[:doubtful]
    again = np.concatenate([close, retried, checked])
    found = refined_log_p(
        vae,
        "refined log p(x | y), the three labels that lead",
        data.test_images[again].repeat_interleave(3, 0),
        torch.from_numpy(ranked[again, :3].reshape(-1)),
    )
    mixed = log_p.copy()
    mixed[again[:, None], ranked[again, :3]] = found.value.reshape(-1, 3)
    after = mixed.argmax(1) == labels
    fifths = np.array_split(close, 5)
    metrics = accuracy_of(mixed, labels) | {
        "images_scored_again": len(again),
        "doubtful": len(close),
        "largest_lead_of_the_doubtful": float(lead[close].max()),
        # of the doubtful, in the order of the lead
        "mended_by_fifth": [int((~before & after)[part].sum()) for part in fifths],
        "spoilt_by_fifth": [int((before & ~after)[part].sum()) for part in fifths],
        "clear_and_wrong": len(wrong),
        "clear_and_wrong_scored_again": len(retried),
        "clear_and_wrong_mended": int(after[retried].sum()),
        "clear_and_right": len(right),
        "clear_and_right_spoilt": proportion_interval(~after[checked]),
        "share_trusted": float(found.trusted().mean()),
    }
    return mixed, metrics


def leads(log_p: np.ndarray) -> np.ndarray:
    """By how much the best label of each image leads the second, nats, `(B,)`."""
    return np.diff(np.sort(log_p, 1)[:, -2:])[:, 0]


def own_and_others(table: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of `table`, `(B, 10)`: each image's own label's entry, `(B,)`, and the others', `(B, 9)`."""
    own = np.arange(10) == labels[:, None]
    return table[own], table[~own].reshape(-1, 9)


def accuracy_of(log_p: np.ndarray, labels: np.ndarray) -> dict:
    """The share read right, with its 95% interval; how sure, and the mean log p(y | x)."""
    p = label_probabilities(log_p)
    own = p[np.arange(len(labels)), labels]
    return {
        "accuracy": proportion_interval(p.argmax(1) == labels),
        "mean_sure": float(p.max(1).mean()),
        "mean_log_p_of_label": float(np.log(own.clip(1e-300)).mean()),
    }


# ---------------------------------------------------------------- what the label is worth


def label_worth(
    vae: Vae,
    plain: Vae,
    data: Dataset,
    chosen: np.ndarray,
    log_p: np.ndarray,
) -> tuple[Figure, dict]:
    """Held-out log p(x | y) against log p(x) of the unconditional model of equal d, paired.

    Two things make the difference: what the label says under the one model, with its own
    p(x) = mean_y p(x | y), for which `log_p` has log p(x | y) of all test images and labels; and
    how far that p(x) is from the other model's.
    """
    x, y = data.test_images[chosen], data.test_labels[chosen]
    conditional = refined_log_p(vae, "refined log p(x | y)", x, y)
    unconditional = refined_log_p(plain, "refined log p(x)", x)
    difference = conditional.value - unconditional.value
    labels = y.numpy()
    table = log_p[chosen]  # a copy
    table[np.arange(len(table)), labels] = conditional.value
    own = logsumexp(table, 1) - np.log(10)
    metrics = {
        "conditional": conditional.summary() | {"pixels": "grey (surrogate score)"},
        "unconditional": unconditional.summary() | {"pixels": "grey (surrogate score)"},
        "difference": mean_interval(difference),
        "by_the_label": mean_interval(conditional.value - own),
        "by_the_model": mean_interval(own - unconditional.value),
        "by_digit": {
            str(digit): mean_interval(difference[labels == digit])
            for digit in range(10)
            if (labels == digit).any()
        },
        "entropy_of_the_label": float(np.log(10)),
    }
    return information_figure(difference, labels, metrics), metrics


# ---------------------------------------------------------------- failures, made on purpose


class Blind(MeanField):
    """A guide that is not given the label: q(z | x)."""

    def q(self, x: Tensor, *labels: Tensor) -> dist.TorchDistribution:
        return super().q(x, torch.zeros_like(labels[0]))  # the same for every image


def failures(
    data: Dataset,
    classifier: Classifier,
    config: dict,
    epochs: int,
    count: int,
    device: torch.device,
) -> tuple[Figure, dict]:
    """Trained as `config` says but for `epochs` epochs: right, and wrong in one or two ways."""
    right = {name: config[name] for name in BUILD}
    options = {
        name: config[name] for name in ("batch_size", "learning_rate", "schedule", "batch_parts")
    }
    mixed = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(SEED))
    appendix = {"architecture": "appendix", "prior": "standard"}
    kinds = {
        "as it should be": (right, None, data.train_labels),
        "guide without y": (right, Blind, data.train_labels),
        "prior N(0, I)": (right | {"prior": "standard"}, None, data.train_labels),
        "prior N(0, I), y one-hot": (right | appendix, None, data.train_labels),
        "prior N(0, I), y one-hot, guide without y": (right | appendix, Blind, data.train_labels),
        "labels at random": (right, None, data.train_labels[mixed]),
    }
    metrics, sets = {}, {}
    for name, (kind, guide_type, labels) in kinds.items():
        torch.manual_seed(SEED)
        vae = Vae.build(**kind)
        if guide_type is not None:
            vae.guide = guide_type(vae.model, precision=kind["precision"])
        vae.to(device)
        print(f"{name}: training for {epochs} epochs")
        rows = (data.train_images.to(device), labels.to(device))
        fit(vae.model, vae.guide, rows, epochs=epochs, seed=SEED, **options)
        some = data.test_images[: max(20, count // 5)].to(device)
        found = class_log_likelihoods(
            vae.model, vae.guide, some, num_samples=100, seed=SEED, progress=name
        )
        own = data.test_labels[: len(some)].numpy()
        metrics[name] = measures(vae, data, classifier, count) | {
            "bayes": accuracy_of(table_of(found), own),
            "information": label_mutual_information(table_of(found), own),
        }
        styles = every_digit(draw_styles(vae, 2))
        sets[name] = decode_style(vae.model, *styles).unflatten(0, (2, 10))
    return failures_figure(sets, metrics), {"epochs": epochs, **metrics}


# ---------------------------------------------------------------- the whole


def main() -> None:
    """Train or load the conditional autoencoder, draw the figures of (d), write the metrics."""
    parser = make_parser(__doc__.splitlines()[0], latent_dim=DIM, epochs=EPOCHS)
    parser.add_argument(
        "--guide", choices=list(AMORTISED), default="mean_field", help="q(z | x, y)"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=1000,
        metavar="N",
        help="test images for the refined scores; generated images: ten times as many",
    )
    parser.add_argument(
        "--failure-epochs", type=int, default=5, metavar="E", help="epochs of the failures"
    )
    args = parser.parse_args()
    check_at_least("--images", args.images, 20)
    check_at_least("--failure-epochs", args.failure_epochs, 1)
    data = announce_and_load(
        args,
        "question (d): style and digit apart. About an hour on 2 cores, and 25 minutes for each "
        "of two autoencoders, with labels and without, that are not trained yet. --images 200 "
        "takes half of it.",
    )
    device = check_device(args.device)
    name = "question_d" if args.guide == "mean_field" else f"question_d_{args.guide}"
    results = Results(args, data, folder_name(args, name, DIM))
    own = "conditional" if args.latent_dim == DIM else f"conditional_d{args.latent_dim}"
    own += "" if args.guide == "mean_field" else f"_{args.guide}"
    spec = Spec(args.latent_dim, "per_label", 10, args.guide, "learned", "cosine")
    vae = load_or_train(args, data, spec, own, path=args.checkpoint)
    results.training = vae.config
    blind = spec._replace(architecture="appendix", num_classes=0, guide="mean_field")
    plain = load_or_train(args, data, blind, f"unconditional_d{args.latent_dim}")
    plane_spec = spec._replace(latent_dim=2, guide="mean_field", prior="standard")
    few = min(args.epochs, 5)  # a posterior to look at needs no more
    plane = load_or_train(args, data, plane_spec, "conditional_plane", epochs=few)
    classifier = trained_classifier(args, data)

    metrics: dict = {}

    def keep(**figures: Figure) -> None:
        """Write figures, and the metrics so far: a run that is stopped has not been for nothing."""
        results.draw(**figures)
        for metric_name, metric in metrics.items():
            results.add(metric_name, metric)

    shown, metrics["theory"] = theory(plane.to("cpu"), data)
    keep(theory=shown)
    count = 10 * args.images
    labels = data.test_labels.numpy()
    first = {digit: np.flatnonzero(labels == digit) for digit in range(10)}
    keep(**style_sets(vae, data, np.array([first[digit][3] for digit in (2, 5, 7, 8)])))
    pairs = [(int(first[digit][0]), int(first[digit][5])) for digit in (2, 3, 4, 7)]
    shown, metrics["units"] = active_units(vae, data)
    digits, metrics["samples_shown"] = digit_samples(vae, classifier)
    keep(digits=digits, ways=style_ways(vae, data, pairs), units=shown)
    metrics["measures"] = measures(vae, data, classifier, count)
    metrics["transfer"] = transfer(vae, data, args.images)
    shown, metrics["classification"], log_p = classify(
        vae, data, classifier, few=max(10, args.images // 10), doubtful=max(10, args.images // 2)
    )
    keep(**shown)
    chosen = np.random.default_rng(SEED).permutation(len(labels))[: args.images]
    shown, metrics["label_worth"] = label_worth(vae, plain, data, chosen, log_p)
    keep(label_worth=shown)
    shown, metrics["failures"] = failures(
        data,
        classifier,
        vae.config,
        args.failure_epochs,
        count // 5,
        device,
    )
    keep(failures=shown)
    generated = metrics["measures"]["generated"]["mean"]
    bayes = metrics["classification"]["with_refined"]["accuracy"]["mean"]
    print(
        f"f(z, y) is read as y for {generated:.1%}; Bayes' rule reads {bayes:.2%} of the test "
        f"images; figures and metrics.json in {results.folder}"
    )


if __name__ == "__main__":
    run(main)
