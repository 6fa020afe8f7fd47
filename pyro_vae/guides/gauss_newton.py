"""The curvature of log p(x, u) at the cost of one derivative forward for each dimension of u.

Let the pixels be of an exponential family (`pyro_vae.guides.families`) with natural parameters
eta(u), and let J = d eta / du. Then minus the Hessian of log p(x | u) is

    J' Var(T(x)) J  -  sum_i (T(x_i) - E T(x_i)) d2 eta_i / du2,

and the first term is Gauss and Newton's curvature. It is positive definite, and all of the Hessian
where the decoder is piecewise linear, as networks of ReLUs are. The columns of J are derivatives
along the axes of u, forward through the decoder: they cost less than the gradient of each component
of a gradient. The prior's Hessian is added as it is.

Martens (2020), New insights and perspectives on the natural gradient method, sections 6 and 8.
"""

import warnings

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution
from torch.func import jvp, vmap

from pyro_vae.guides.families import pixels_of
from pyro_vae.guides.laplace import Derivatives, curvature, jacobian, made_positive
from pyro_vae.guides.posterior import Posterior
from pyro_vae.networks.precision import to_float64_device, without_tf32

AT_ONCE = 2000  # derivatives that are computed at a time


def derivatives_of(posterior: Posterior) -> Derivatives:
    """Return the function of u that gives log p(x, u), its gradient and its curvature.

    The curvature is Gauss and Newton's where it is known, and else the Hessian's.
    """

    def derivatives(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = gauss_newton(posterior, u)
        if found is None:
            return curvature(posterior.log_joint, u)
        value, gradient, precision = found
        return value, gradient, made_positive(precision)

    return derivatives


def gauss_newton(posterior: Posterior, u: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return log p(x, u), its gradient and minus its Hessian by Gauss and Newton.

    Shapes are `(K, B)`, `(K, B, D)` and `(K, B, D, D)`. None where the observed sites are of no
    family that is known, or where the program takes no derivatives forward.
    """
    size = max(1, AT_ONCE // (len(u) * u.shape[-1]))
    parts = []
    for start in range(0, u.shape[1], size):
        rows = slice(start, start + size)
        parts.append(_of_images(posterior.rows(rows), u[:, rows]))
        if parts[-1] is None:
            return None
    value, gradient, precision = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    return value, gradient, precision


def _of_images(posterior: Posterior, u: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    with torch.enable_grad():
        at = u.detach().requires_grad_()
        log_prior, sites = posterior.parts(at)
        precision = _minus_hessian(log_prior, at)
    weights = []
    for site in sites:
        pixels = pixels_of(site.fn)
        if pixels is None:
            return None
        for _, information in pixels.family.information(pixels.base):
            counts = information.detach() * torch.as_tensor(pixels.mask, device=u.device)
            weights.append(_of_pixels(counts, site.fn, pixels.base, u))
    axes = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)

    def along(axis: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the slopes of log p(x, u) and of the pixels' parameters, and log p(x, u)."""
        _, slopes, value = jvp(
            lambda u: _parameters(posterior, u), (u.detach(),), (axis.expand_as(u),), has_aux=True
        )
        return slopes, value

    try:
        with without_tf32(u), warnings.catch_warnings():  # torch's own, as it loads what jvp needs
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
            (gradient, *slopes), value = vmap(along, out_dims=(0, None))(axes)
    except RuntimeError:  # no such derivative of one of its functions
        return None
    for slope, weight in zip(slopes, weights, strict=True):  # (D, K, B, n) and (K, B, n)
        slope = slope.movedim(0, -2)
        precision = precision + slope * weight[..., None, :] @ slope.mT
    return value, gradient.movedim(0, -1), to_float64_device(precision)


@torch.no_grad()
def _parameters(posterior: Posterior, u: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return log p(x, u), `(K, B)`, and the pixels' parameters, each `(K, B, n)`; the first again.

    A derivative forward needs none of what is kept for one backward.
    """
    log_prior, sites = posterior.parts(u)
    log_p = log_prior + sum(site.log_prob for site in sites)
    outputs = [log_p]
    for site in sites:
        family, q, _ = pixels_of(site.fn)
        for eta, _ in family.information(q):
            outputs.append(_of_pixels(eta, site.fn, q, u))
    return outputs, log_p


def _of_pixels(value: Tensor, fn: TorchDistribution, base: Distribution, u: Tensor) -> Tensor:
    """Return a number for each pixel as `(K, B, n)`; a site may not depend on the sample."""
    flat = value.expand(base.batch_shape).reshape(fn.batch_shape.numel(), -1)
    if len(flat) == u.shape[1]:
        return flat.expand(len(u), *flat.shape)
    return flat.reshape(*u.shape[:2], -1)


def _minus_hessian(log_prior: Tensor, u: Tensor) -> Tensor:
    """Return minus the Hessian of the prior, `(K, B, D, D)`; zero where it does not depend on u."""
    zero = u.new_zeros(*u.shape, u.shape[-1])
    if not log_prior.requires_grad:
        return zero
    (gradient,) = torch.autograd.grad(log_prior.sum(), u, create_graph=True)
    if not gradient.requires_grad:
        return zero
    return -jacobian(gradient, u).detach()
