"""All that is known here about Pyro's traces: latents drawn, and log densities of each image.

A program is a Pyro model or guide, called on a batch: `[x]`, or `[x, y]` with labels. K samples of
b images give latents `(K, b, ...)` and log densities `(K, b)`, nats per image.
"""

from collections.abc import Callable, Sequence

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.errors import InputError, check_rows, checked, one_line_refusals

Program = Callable[..., object]  # a Pyro model or guide: program(x) or program(x, y)


def batches(tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """Cut equally long tensors, such as images and labels, into batches of at most `size` rows."""
    return [[*batch] for batch in zip(*(t.split(size) for t in tensors), strict=True)]


def draw(guide: Program, batch: list[Tensor], num_samples: int) -> tuple[dict[str, Tensor], Tensor]:
    """Draw K samples of each latent site, `(K, b, ...)`; return them and log q(z | x), `(K, b)`."""
    particles = pyro.plate("particles", num_samples, dim=-2)
    sites = sample_sites(particles(guide), batch)
    for site in sites:
        if site["is_observed"]:
            raise InputError(
                f"the guide observes {site['name']!r}: a guide only samples, and the model observes"
            )
    latents = {site["name"]: site["value"] for site in sites}
    if not latents:
        raise InputError("the guide samples nothing: it must sample the model's latent sites")
    return latents, _sum_sites(sites, num_samples, len(batch[0]))


def draw_z(guide: Program, batch: list[Tensor], num_samples: int) -> tuple[Tensor, Tensor]:
    """Draw as `draw` does, from a guide whose only latent site is "z"; return z, `(K, b, d)`."""
    latents, log_q = draw(guide, batch, num_samples)
    if latents.keys() != {"z"}:
        raise InputError(f"the guide must sample 'z' and no more, not {sorted(latents)}")
    return latents["z"], log_q


def log_joint(
    model: Program, batch: list[Tensor], latents: dict[str, Tensor], *, observes: bool = False
) -> Tensor:
    """Return log p(x, z), `(K, b)`, at latents `(K, b, ...)`, in one pass; differentiable.

    Given a guide it returns log q(z | x). `observes=True` refuses a program that observes nothing,
    so that a guide in the model's place is an error.
    """
    num_samples, images = next(iter(latents.values())).shape[:2]
    sites = sample_sites(poutine.condition(model, data=latents), batch)
    for site in sites:
        if not site["is_observed"]:
            raise InputError(
                f"the guide misses the model's latent site {site['name']!r}: sample it there"
            )
    if observes and {site["name"] for site in sites} <= latents.keys():
        raise InputError("the model observes nothing: it must score x, pyro.sample(..., obs=x)")
    for name in latents.keys() - {site["name"] for site in sites}:
        raise InputError(
            f"the guide samples {name!r}, which is no site of the model: remove it, or rename it"
        )
    return _sum_sites(sites, num_samples, images)


@checked
@one_line_refusals
@torch.no_grad()
def simulate(model: Program, images: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
    """Draw images of the shape of `images` from the model; return them and their latents `(B, d)`.

    Of `images` only the shape and type are used. The model must have one latent and one observed
    site.
    """
    check_rows(images, *labels, first="images")
    with poutine.trace() as capture:
        poutine.uncondition(model)(images, *labels)
    sites = [site for site in capture.trace.nodes.values() if is_random(site)]
    observed = [site["value"] for site in sites if "was_observed" in site["infer"]]
    latents = [site["value"] for site in sites if "was_observed" not in site["infer"]]
    if len(observed) != 1 or len(latents) != 1:
        names = [site["name"] for site in sites]
        raise InputError(f"model must have one latent and one observed site, not {names}")
    return observed[0], latents[0]


def sample_sites(program: Program, batch: list[Tensor]) -> list[dict]:
    """Run a model or guide once; return its sample sites, each with its log probability."""
    trace = poutine.trace(program).get_trace(*batch)
    trace.compute_log_prob()
    sites = [trace.nodes[name] for name in trace.stochastic_nodes + trace.observation_nodes]
    return [site for site in sites if is_random(site)]


def is_random(site: dict) -> bool:
    """Return True for drawn or observed sites, False for subsampling and deterministic ones."""
    return (
        site["type"] == "sample"
        and not site_is_subsample(site)
        and not site["infer"].get("_deterministic")
    )


def _sum_sites(sites: list[dict], num_samples: int, images: int) -> Tensor:
    """Add up the sites' log probabilities: one number per sample and image, `(K, b)`.

    Raises InputError for a scaled site and for one without a log probability per image: Pyro would
    add these up without a word.
    """
    total = torch.zeros(num_samples, images)
    for site in sites:
        log_prob, name = site["log_prob"], site["name"]
        if torch.as_tensor(site["scale"] != 1).any():
            raise InputError(
                f"site {name!r} is scaled by {site['scale']}: importance weights need the unscaled "
                "density, so remove poutine.scale and the plate's subsampling"
            )
        if log_prob.dim() == 0 or log_prob.dim() > 2 or log_prob.shape[-1] != images:
            raise InputError(
                f"site {name!r} gives log probabilities of shape {tuple(log_prob.shape)}, not "
                f"{(num_samples, images)}: put it in one plate over the images and declare its "
                "other dimensions with .to_event()"
            )
        total = total.to(log_prob) + log_prob
    return total
