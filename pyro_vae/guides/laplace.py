"""Laplace's approximation: modes of p(z | x) by Newton's method, and the curvature there."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pyro_vae.guides.posterior import LogJoint
from pyro_vae.guides.student import StudentMixture
from pyro_vae.networks.precision import to_float64_device, without_tf32

# z, (K, B, d), to log p(x, z), its gradient and minus its Hessian, made positive definite
Derivatives = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def curvature(log_joint: LogJoint, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p(x, z), its gradient and minus its Hessian, made positive definite.

    Shapes: `(K, B)`, `(K, B, d)` and `(K, B, d, d)`. By `made_positive` the Newton step is a
    direction of ascent, and the inverse a covariance, at saddles too.
    """
    with torch.enable_grad(), without_tf32(z):
        z = z.detach().requires_grad_()
        value = log_joint(z)
        (gradient,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        precision = -jacobian(gradient, z)
    return value.detach(), gradient.detach(), made_positive(precision)


def jacobian(gradient: Tensor, z: Tensor) -> Tensor:
    """Return the derivatives `(K, B, d, d)` of a gradient that was taken at z, `(K, B, d)`."""
    rows = [
        torch.autograd.grad(gradient[..., i].sum(), z, retain_graph=True)[0]
        for i in range(z.shape[-1])
    ]
    return torch.stack(rows, -2)


def made_positive(precision: Tensor) -> Tensor:
    """Return symmetric matrices `(*, d, d)` with the absolute values of their eigenvalues.

    None is below a ten-thousandth of the largest.
    """
    precision = to_float64_device(precision)
    eigenvalues, vectors = torch.linalg.eigh((precision + precision.mT) / 2)
    eigenvalues = eigenvalues.abs()
    floor = 1e-4 * eigenvalues.amax(-1, keepdim=True)
    eigenvalues = torch.maximum(eigenvalues, floor.clamp(min=1e-6))
    return vectors @ torch.diag_embed(eigenvalues) @ vectors.mT


def newton_ascent(
    log_joint: LogJoint, z: Tensor, steps: int, derivatives: Derivatives | None = None
) -> Tensor:
    """Return `z`, `(K, B, d)`, after Newton steps up log p(x, z); no step ever goes down.

    Each step tries four lengths in turn, each from where the one before has led, and takes every
    one that goes up. `derivatives` are by
    default those of `curvature`.
    """
    derivatives = derivatives or partial(curvature, log_joint)
    for _ in range(steps):
        value, gradient, precision = derivatives(z)
        direction = torch.linalg.solve(precision, to_float64_device(gradient)).to(z.device)
        with torch.no_grad():
            for length in (1.0, 0.5, 0.2, 0.05):
                trial = z + length * direction
                trial_value = log_joint(trial)
                better = trial_value > value
                z = torch.where(better[..., None], trial, z)
                value = torch.where(better, trial_value, value)
    return z


def laplace(
    log_joint: LogJoint, modes: Tensor, derivatives: Derivatives | None = None
) -> StudentMixture:
    """Return a mixture with the modes `(C, B, d)` as locations and the curvature there as scatter.

    A component's weight is the mass of Laplace's approximation at its mode. Of modes that lie
    within each other's reach, only the heaviest is kept.
    """
    derivatives = derivatives or partial(curvature, log_joint)
    value, _, precision = (to_float64_device(t).double() for t in derivatives(modes))
    locs = to_float64_device(modes).double()
    scatter = torch.linalg.inv(precision)
    mass = value - 0.5 * torch.linalg.slogdet(precision).logabsdet  # log mass, (C, B)
    count, d = len(modes), modes.shape[-1]
    for i in range(count):
        for j in range(count):
            step = to_float64_device(modes[i] - modes[j]).double()
            near = torch.einsum("bi,bij,bj->b", step, precision[j], step) < d
            beaten = (mass[i] < mass[j]) | ((mass[i] == mass[j]) & (i > j))
            mass[i] = torch.where(near & beaten, -math.inf, mass[i])
    return StudentMixture(
        locs.transpose(0, 1),
        torch.linalg.cholesky(scatter).transpose(0, 1),
        torch.log_softmax(mass, 0).T,
        modes,
    )
