"""Estimates of log p(x) from log weights alone: no model, no guide, no Pyro.

For K samples z_k ~ q(z | x) of a proposal q the log weights are log w_k = log p(x, z_k) -
log q(z_k | x), `(K, B)` for B images. Tensors and NumPy arrays both serve.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import InputError, check_counts, checked
from pyro_vae.likelihood.arviz_form import pointwise
from pyro_vae.likelihood.intervals import mean_interval, standard_error_of_mean
from pyro_vae.likelihood.psis import check_log_weights, khat_threshold, pareto_khat, passes

if TYPE_CHECKING:  # for `to_frame` and `plot` alone, which import them
    import pandas
    from matplotlib.figure import Figure


class Estimate(NamedTuple):
    """log p(x) of B images with its diagnostics. All arrays `(B,)`, float64, nats per image.

    >>> import numpy as np
    >>> from pyro_vae import estimate
    >>> result = estimate(np.zeros((100, 2)))  # 100 equal weights of two images
    >>> result.value.tolist(), result.ess.tolist()
    ([0.0, 0.0], [100.0, 100.0])
    """

    value: np.ndarray  # IWAE-K, the estimate of log p(x); its expectation is a lower bound
    se: np.ndarray  # its Monte Carlo standard error (delta method); NaN at K = 1 or value -inf
    ess: np.ndarray  # effective sample size, (sum w)^2 / sum w^2: from 1 to K
    khat: np.ndarray  # Pareto shape of the weights' tail
    elbo: np.ndarray  # mean log weight: the ELBO from the same samples
    zero_weights: np.ndarray  # samples with log weight -inf: kept in every mean, and counted
    num_samples: int | np.ndarray  # K; of each image, `(B,)`, where a standard error sets it

    def __repr__(self) -> str:
        """Say what was found and how far to trust it, a line each; the arrays are its fields."""
        summary = self.summary()
        low, high = summary["ci95"]
        lines = [
            f"log p(x) of {len(self.value):,} image{'s' * (len(self.value) > 1)}: "
            f"{summary['mean']:.2f} nats"
            + " on average" * (len(self.value) > 1)
            + (f", {low:.2f} to {high:.2f} (95%, over images)" if len(self.value) > 1 else "")
            + f", by {summary['num_samples']:,.0f} samples an image",
            summary["verdict"],
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the lines, and a table of the first ten images."""
        heads = ("image", "log p(x), nats", "± se", "effective samples", "k-hat", "trusted")
        rows = [
            f"<tr><td>{i}</td><td>{value:.2f}</td><td>{se:.2f}</td><td>{ess:.0f}</td>"
            f"<td>{khat:.2f}</td><td>{'yes' if ok else 'no'}</td></tr>"
            for i, (value, se, ess, khat, ok) in enumerate(
                zip(self.value, self.se, self.ess, self.khat, self.trusted(), strict=True)
            )
            if i < 10
        ]
        more = len(self.value) - len(rows)
        rows += [f"<tr><td colspan='{len(heads)}'>and {more:,} more</td></tr>"] if more else []
        head = "".join(f"<th>{name}</th>" for name in heads)
        said = "<br>".join(repr(self).splitlines())
        return f"<p>{said}</p><table><tr>{head}</tr>{''.join(rows)}</table>"

    def to_frame(self) -> "pandas.DataFrame":
        """Return a table with a row for each image; needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise InputError("to_frame needs pandas: pip install pandas") from error
        columns = self._asdict() | {"trusted": self.trusted()}
        return pandas.DataFrame(columns).rename_axis("image")

    def to_arviz(self) -> Any:
        """Return what ArviZ's `plot_khat` and `compare` take: log p(x) and k-hat of each image.

        ArviZ calls them elpd_i and pareto_k, of "loo": see `pyro_vae.likelihood.arviz_form`.
        """
        least = int(np.min(self.num_samples))  # where the images have different numbers
        return pointwise(self.value, self.khat, least)

    def plot(self) -> "Figure":
        """Draw the estimates against their k-hat: to the right of the line trust them no more."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4))
        figure.set_layout_engine("constrained")
        ax = figure.subplots()
        ok, khat = self.trusted(), np.nan_to_num(self.khat, posinf=np.nan, neginf=np.nan)
        for chosen, colour, label in ((ok, "#1b6ca8", "trusted"), (~ok, "#d95f02", "not")):
            share = f"{label} ({chosen.mean():.0%})"
            ax.plot(khat[chosen], self.value[chosen], "o", ms=4, color=colour, label=share)
        ax.axvline(khat_threshold(int(np.min(self.num_samples))), color="0.4", ls="--", lw=1)
        ax.set(xlabel="Pareto k-hat", ylabel="log p(x), nats")
        ax.set_title(f"{len(ok):,} images, {self.value.mean():.1f} nats on average")
        ax.legend()
        return figure

    @classmethod
    def concatenate(cls, parts: Sequence["Estimate"]) -> "Estimate":
        """Join estimates of successive images, from equally many samples where K is one number."""
        counts = [part.num_samples for part in parts]
        if not any(isinstance(count, np.ndarray) for count in counts) and len({*counts}) != 1:
            raise InputError("parts must be estimates, at least one, of equally many samples")
        arrays = [part.arrays() for part in parts]
        joined = {name: np.concatenate([each[name] for each in arrays]) for name in arrays[0]}
        return parts[0]._replace(**joined)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name: every field but `num_samples` where that is one number."""
        return {name: v for name, v in self._asdict().items() if isinstance(v, np.ndarray)}

    def subset(self, images: np.ndarray | slice) -> "Estimate":
        """Return the estimates of some of the images, by index."""
        return self._replace(**{name: array[images] for name, array in self.arrays().items()})

    def replaced(self, images: np.ndarray, other: "Estimate") -> "Estimate":
        """Return these estimates, those of some images replaced; each has its own K."""
        columns = [column.copy() for column in self]
        for column, new in zip(columns, other, strict=True):
            column[images] = new
        return Estimate(*columns)

    def trusted(self) -> np.ndarray:
        """Return whether k-hat lets each estimate be trusted at this number of samples, `(B,)`.

        k-hat is itself estimated. Where most images fail, those that pass have mostly met no large
        weight by luck, and are too low. So a pass counts where most images pass.
        """
        return passes(self.khat, self.num_samples)

    def summary(self) -> dict[str, float | int | bool | str]:
        """Return the mean over the images, and how far to trust it, in JSON's own types."""
        trusted, several = self.trusted(), isinstance(self.num_samples, np.ndarray)
        over_images = mean_interval(self.value)
        return {
            "estimator": "importance sampling",
            "mean": over_images["mean"],
            # over the choice of images, and over the samples at these images
            "ci95": over_images["ci95"],
            "mc_se": standard_error_of_mean(self.se),
            "elbo": float(self.elbo.mean()),
            "num_samples": np.mean(self.num_samples) if several else self.num_samples,
            "num_images": len(self.value),
            "share_trusted": float(trusted.mean()),
            "khat_threshold": khat_threshold(int(np.min(self.num_samples))),
            "median_khat": float(np.median(self.khat)),
            "median_ess": float(np.median(self.ess)),
            "zero_weights": int(self.zero_weights.sum()),
            "verdict": _verdict(trusted, self.khat),
        }


def sum_of(parts: Sequence[Estimate], log_prior: Sequence[float]) -> Estimate:
    """Return the estimate of log sum_v p(v) p(x | v) from those of log p(x | v), log p(v) given.

    k-hat and the effective sample size are the worst of those values v that have at least 1% of
    the sum; k-hat is +inf where one of them is not to be trusted at its own number of draws. The
    ELBO is that of the guide that draws v in proportion to the terms of the sum.
    """
    terms = np.stack([part.value + log for part, log in zip(parts, log_prior, strict=True)])
    value = np.logaddexp.reduce(terms)
    with np.errstate(invalid="ignore"):
        share = np.nan_to_num(np.exp(terms - value))  # (V, B); 0 where all terms are -inf
    counts = share >= 0.01
    elbo = np.stack([part.elbo + log for part, log in zip(parts, log_prior, strict=True)])
    elbo = np.where(share > 0, elbo, 0.0)
    bound = np.where(share > 0, share * (elbo - np.log(np.maximum(share, 1e-300))), 0.0)
    se = np.stack([part.se for part in parts])
    khat = [np.where(part.trusted(), part.khat, np.inf) for part in parts]
    some = counts.any(0)  # no value has a share where every weight of all is zero
    return Estimate(
        value=value,
        se=np.where(some, np.sqrt(np.square(np.where(share > 0, share * se, 0.0)).sum(0)), np.nan),
        ess=np.where(some, np.where(counts, [part.ess for part in parts], np.inf).min(0), 0.0),
        khat=np.where(some, np.where(counts, khat, -np.inf).max(0), np.inf),
        elbo=np.where(some, bound.sum(0), -np.inf),
        zero_weights=sum(part.zero_weights for part in parts),
        num_samples=sum(part.num_samples for part in parts),
    )


@checked
def estimate(log_w: Tensor | np.ndarray) -> Estimate:
    """Estimate log p(x) and its diagnostics from log weights `(K, B)`; -inf counts as weight zero.

    The estimate is log mean_k w_k, its standard error sd(w) / (sqrt(K) mean(w)). Raises InputError
    where a log weight is NaN or +inf.

    >>> import numpy as np
    >>> from pyro_vae import estimate
    >>> log_w = np.random.default_rng(0).normal(-90, 0.5, size=(1000, 3))
    >>> estimate(log_w).value.round(1)  # log E[w] = -90 + 0.5 ** 2 / 2
    array([-89.9, -89.9, -89.9])
    """
    log_w = check_log_weights(log_w).detach().cpu().double()
    num_samples = len(log_w)
    value = log_w.logsumexp(0) - math.log(num_samples)
    # relative weights w / mean(w); where every weight is zero the estimate is log 0 = -inf
    w = torch.where(value.isinf(), 0.0, torch.exp(log_w - value))
    # sd(w) / (sqrt(K) mean(w)): delta method for the logarithm of a mean
    se = torch.full_like(value, math.nan)
    if num_samples > 1:
        se = torch.where(value.isinf(), math.nan, w.std(0) / math.sqrt(num_samples))
    return Estimate(
        value=value.numpy(),
        se=se.numpy(),
        ess=(w.sum(0).square() / w.square().sum(0)).nan_to_num(0.0).numpy(),
        khat=pareto_khat(log_w),
        elbo=log_w.mean(0).numpy(),
        zero_weights=log_w.isinf().sum(0).numpy(),
        num_samples=num_samples,
    )


def exact(value: np.ndarray) -> Estimate:
    """Return log p(x), `(B,)`, that is known without error, as an estimate by one sample each."""
    zero, one = np.zeros_like(value), np.ones(len(value), int)
    return Estimate(
        value, zero, one.astype(float), np.full_like(value, -np.inf), value, 0 * one, one
    )


def _verdict(trusted: np.ndarray, khat: np.ndarray) -> str:
    """Say how many images are to be trusted as log p(x), which are not, and what to do."""
    if trusted.all():
        return "to be trusted"
    wrong = np.flatnonzero(~trusted)
    named = ", ".join(f"{i} (k-hat {khat[i]:.2f})" for i in wrong[:3])
    more = f" and {len(wrong) - 3:,} more" if len(wrong) > 3 else ""
    few = "; where so few pass, some do by luck and are too low" if trusted.mean() < 0.5 else ""
    return (
        f"{len(trusted) - len(wrong):,} of {len(trusted):,} trusted; not image"
        f"{'s' * (len(wrong) > 1)} {named}{more}: a lower bound there{few}; draw more samples, or "
        "use the refined guide"
    )


@checked
def iwae(log_w: Tensor | np.ndarray, num_samples: int) -> Tensor:
    """Return IWAE-k of each image, `(B,)`, from log weights `(K, B)`; k = `num_samples`.

    IWAE-k = E[log mean of k weights], here the mean over the K // k disjoint groups of k samples.
    `iwae(log_w, 1)` is the ELBO, `iwae(log_w, K)` the estimate of log p(x).

    >>> import numpy as np
    >>> from pyro_vae import iwae
    >>> log_w = np.random.default_rng(0).normal(-90, 1, size=(5000, 1))
    >>> [round(float(iwae(log_w, k)), 1) for k in (1, 10, 5000)]  # log E[w] = -89.5
    [-90.0, -89.6, -89.5]
    """
    log_w = check_log_weights(log_w)
    check_counts(num_samples=num_samples)
    if num_samples > len(log_w):
        raise InputError(
            f"num_samples must be 1 to {len(log_w)} (the log weights), not {num_samples}"
        )
    groups = len(log_w) // num_samples
    grouped = log_w[: groups * num_samples].unflatten(0, (groups, num_samples))
    return (grouped.logsumexp(1) - math.log(num_samples)).mean(0)
