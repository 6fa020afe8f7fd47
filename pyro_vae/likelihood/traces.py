"""What is known of Pyro's traces: latents drawn, log densities of each image."""

from collections.abc import Callable

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.errors import InputError, check_rows, checked

Program = Callable[..., object]  # a Pyro model or guide: program(x) or program(x, y)


def draw(guide: Program, rows: list[Tensor], num_samples: int) -> tuple[dict[str, Tensor], Tensor]:
    """K samples of each latent site, `(K, b, ...)`, and their log q(z | x), `(K, b)`."""
    particles = pyro.plate("particles", num_samples, dim=-2)
    sites = sample_sites(particles(guide), rows)
    for site in sites:
        if site["is_observed"]:
            raise InputError(
                f"the guide observes {site['name']!r}: a guide only samples, and the model observes"
            )
    latents = {site["name"]: site["value"] for site in sites}
    if not latents:
        raise InputError("the guide samples nothing: it must sample the model's latent sites")
    return latents, _sum_sites(sites, num_samples, len(rows[0]))


def draw_z(guide: Program, rows: list[Tensor], num_samples: int) -> tuple[Tensor, Tensor]:
    """As `draw`, of a guide whose one latent site is "z": the values themselves, `(K, b, d)`."""
    latents, log_q = draw(guide, rows, num_samples)
    if latents.keys() != {"z"}:
        raise InputError(f"the guide must sample 'z' and no more, not {sorted(latents)}")
    return latents["z"], log_q


def log_joint(
    model: Program, rows: list[Tensor], latents: dict[str, Tensor], *, observes: bool = False
) -> Tensor:
    """log p(x, z), `(k, b)`, at latents `(k, b, ...)`, in one pass; differentiable.

    Of a guide it is log q(z | x); `observes` refuses one, since a model scores the images as well.
    """
    num_samples, images = next(iter(latents.values())).shape[:2]
    sites = sample_sites(poutine.condition(model, data=latents), rows)
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
@torch.no_grad()
def simulate(model: Program, images: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images drawn from the model, of the shape of `images`, and their latents `(B, d)`."""
    check_rows(images, *labels, first="images")
    with poutine.trace() as capture:
        poutine.uncondition(model)(images, *labels)
    sites = [site for site in capture.trace.nodes.values() if is_random(site)]
    values = {"was_observed" in site["infer"]: site["value"] for site in sites}
    if len(sites) != 2 or len(values) != 2:
        names = [site["name"] for site in sites]
        raise InputError(f"model must have one latent and one observed site, not {names}")
    return values[True], values[False]


def sample_sites(program: Program, rows: list[Tensor]) -> list[dict]:
    """The sample sites of one run of a model or guide, each with its log probability."""
    trace = poutine.trace(program).get_trace(*rows)
    trace.compute_log_prob()
    sites = [trace.nodes[name] for name in trace.stochastic_nodes + trace.observation_nodes]
    return [site for site in sites if is_random(site)]


def is_random(site: dict) -> bool:
    """Whether a site of a trace is drawn or observed: no plate's choice, and nothing computed."""
    return (
        site["type"] == "sample"
        and not site_is_subsample(site)
        and not site["infer"].get("_deterministic")
    )


def _sum_sites(sites: list[dict], num_samples: int, images: int) -> Tensor:
    """The sum of the sites' log probabilities, `(K, b)`: one number per sample and image."""
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
