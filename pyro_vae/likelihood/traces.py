"""Programs run for K samples of each image: latents drawn, and log densities of each.

A program is a Pyro model or guide, called on a batch: `[x]`, or `[x, y]` with labels. K samples of
b images give latents `(K, b, ...)` and log densities `(K, b)`, nats per image. Densities are those
of the program without `poutine.scale` and without the factor of a subsampled plate.

A program takes the K samples in one of two ways. The first is a plate of samples, to the left of
the images: an encoder then runs once for an image. The second is a batch whose rows are K copies of
the images. The program then runs as its author wrote it, which networks that take one leading
dimension need, such as ConvTranspose2d. The plate is used where it gives the same log densities.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.condition_messenger import ConditionMessenger
from torch import Tensor

from pyro_vae.complaints import one_line_refusals
from pyro_vae.errors import InputError, check_rows, checked
from pyro_vae.likelihood.coordinates import is_discrete
from pyro_vae.likelihood.refusals import check_densities, check_names, check_shape
from pyro_vae.likelihood.sites import Site, is_random, run
from pyro_vae.programs import Program, in_evaluation_mode, weights_stamp
from pyro_vae.seeds import seeded


def batches(tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """Cut equally long tensors, such as images and labels, into batches of at most `size` rows."""
    return [[*batch] for batch in zip(*(t.split(size) for t in tensors), strict=True)]


def draw(guide: Program, batch: list[Tensor], num_samples: int) -> tuple[dict[str, Tensor], Tensor]:
    """Draw K samples of each latent site, `(K, b, ...)`; return them and log q(z | x), `(K, b)`."""
    sites = guide_sites(guide, batch, num_samples)
    check_densities(sites, lambda: sites_of_samples(guide, batch, 2))
    return _latents(sites), _total(sites, num_samples, len(batch[0]))


def only(latents: dict[str, Tensor]) -> Tensor:
    """Return the one latent there is; raise InputError where there are several."""
    if len(latents) != 1:
        raise InputError(f"the guide must sample one latent site here, not {sorted(latents)}")
    return next(iter(latents.values()))


def guide_sites(guide: Program, batch: list[Tensor], num_samples: int) -> list[Site]:
    """Run the guide for K samples of each image; return its latent and auxiliary sites."""
    set_up(guide, batch)
    sites = sites_of_samples(guide, batch, num_samples)
    for site in sites:
        if site.observed:
            raise InputError(
                f"the guide observes {site.name!r}: a guide only samples, and the model observes"
            )
    if not _latents(sites):
        raise InputError("the guide samples nothing: it must sample the model's latent sites")
    return sites


def set_up(guide: Program, batch: list[Tensor]) -> None:
    """Let an autoguide set itself up at its first call: that must be in no plate of samples."""
    if isinstance(guide, AutoGuide) and guide.prototype_trace is None:
        guide(*batch)


def _latents(sites: list[Site]) -> dict[str, Tensor]:
    return {site.name: site.value for site in sites if not site.auxiliary}


def log_joint(
    model: Program, batch: list[Tensor], latents: dict[str, Tensor], *, observes: bool = False
) -> Tensor:
    """Return log p(x, z), `(K, b)`, at latents `(K, b, ...)`, in one pass; differentiable.

    Given a guide it returns log q(z | x). `observes=True` refuses a program that observes nothing,
    so that a guide in the model's place is an error.
    """
    num_samples, images = next(iter(latents.values())).shape[:2]
    sites = sites_at(model, batch, latents)
    missing = [site.name for site in sites if not site.observed]
    for site in sites:
        if not site.observed and is_discrete(site):
            raise InputError(
                f"the guide misses the model's discrete latent {site.name!r}: sample it there, or "
                "use Refined(model, guide), which takes it value by value"
            )
    names = {site.name for site in sites}
    if observes and not missing and names <= latents.keys():
        raise InputError("the model observes nothing: it must score x, pyro.sample(..., obs=x)")
    check_names(latents, [*missing, *names.intersection(latents)])
    return _total(sites, num_samples, images)


def sites_at(program: Program, batch: list[Tensor], latents: dict[str, Tensor]) -> list[Site]:
    """Run a program with some sites held at values `(K, b, ...)`; return its sites."""
    num_samples = next(iter(latents.values())).shape[0]
    if num_samples > 1 and _takes_samples(program, batch, latents):
        return run(_conditioned(program, latents, 2), batch, num_samples)
    rows = {name: value.flatten(0, 1) for name, value in latents.items()}
    return _sites_of_rows(_conditioned(program, rows), batch, num_samples)


class _Holding(ConditionMessenger):
    """Hold latents at given values, of the program's own shapes; refuse those that it observes.

    The values have `lead` dimensions before those of an image's latent.
    """

    def __init__(self, values: dict[str, Tensor], lead: int):
        super().__init__(values)
        self.lead = lead

    def _pyro_sample(self, msg: dict) -> None:
        if msg["name"] in self.data:
            if msg["is_observed"]:
                raise InputError(
                    f"the guide samples {msg['name']!r}, which the model observes: remove it "
                    "there, or give it to the guide as an argument"
                )
            given = self.data[msg["name"]].shape[self.lead :]
            check_shape(msg["name"], given, msg["fn"].event_shape)
        super()._pyro_sample(msg)


def _conditioned(program: Program, values: dict[str, Tensor], lead: int = 1) -> Program:
    return _Holding(values, lead)(program)


# whether a program takes a plate of samples, by the object it belongs to
_KNOWN: WeakKeyDictionary = WeakKeyDictionary()


def _known(program: Program, batch: list[Tensor]) -> tuple[dict, tuple]:
    """Return where `_KNOWN` keeps whether the program takes samples, and the key there.

    The answer is for the weights as they are: where an output layer is zero, say, it does not show
    what a network mixes up before.
    """
    owner, name = getattr(program, "__self__", program), getattr(program, "__name__", "")
    try:
        return _KNOWN.setdefault(owner, {}), (name, len(batch), weights_stamp())
    except TypeError:  # it cannot be a key: asked anew each time
        return {}, ()


@torch.no_grad()
def take_samples(model: Program, guide: Program, batch: list[Tensor]) -> bool:
    """Whether model and guide give the same log densities in a plate of samples as without."""
    latents, _ = draw(guide, batch, 2)
    return _takes_samples(guide, batch, None) and _takes_samples(model, batch, latents)


def _takes_samples(
    program: Program, batch: list[Tensor], latents: dict[str, Tensor] | None
) -> bool:
    """Whether the program, in a plate of samples, gives the log densities that it gives without.

    It is tried, once for its weights, at the last two samples of `latents`, or where it draws them.
    First it is run without a plate, as its author wrote it: that raises the program's own errors.
    A program that draws random numbers beside its sites cannot be tried: it says so by an attribute
    `takes_samples`.
    """
    known, key = _known(program, batch)
    if key not in known:
        if getattr(program, "takes_samples", False):
            return True
        with torch.no_grad(), seeded(0, batch[0]):
            if latents is None:
                run(program, batch)
                known[key] = _same_in_plate(program, batch, None)
            else:
                last = {name: value[-1] for name, value in latents.items()}
                if not all(s.observed for s in run(_conditioned(program, last), batch)):
                    return True  # it lacks a latent: an error, and no answer
                known[key] = _same_in_plate(program, batch, latents)
    return known[key]


def _same_in_plate(
    program: Program, batch: list[Tensor], latents: dict[str, Tensor] | None
) -> bool:
    """Whether the last of two samples in a plate has the log density that it has on its own."""
    try:
        if latents is None:
            sites = run(_in_plate(program, 2), batch, 2)
            if len(sites) == 1:
                return True  # no network comes after it
            latents = {site.name: site.value for site in sites if not site.observed}
        else:
            pair = {name: value[-2:] for name, value in latents.items()}
            sites = run(_conditioned(program, pair, 2), batch, 2)
    except Exception as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate" in str(error):
            raise
        return False
    last = {name: value[-1] for name, value in latents.items()}
    alone = run(_conditioned(program, last), batch)
    together, plain = _total(sites, 2, len(batch[0])), _total(alone, 1, len(batch[0]))
    return torch.allclose(together[1:], plain, 1e-4, 1e-3, equal_nan=True)


def _in_plate(program: Program, num_samples: int) -> Program:
    return pyro.plate("particles", num_samples, dim=-2)(program)


def sites_of_samples(program: Program, batch: list[Tensor], num_samples: int) -> list[Site]:
    """Run a program that samples for K samples of each image."""
    if num_samples > 1 and _takes_samples(program, batch, None):
        return run(_in_plate(program, num_samples), batch, num_samples)
    return _sites_of_rows(program, batch, num_samples)


def _sites_of_rows(program: Program, batch: list[Tensor], num_samples: int) -> list[Site]:
    """Run a program on K copies of each image, as rows of one batch; return its sites."""
    rows, images = batch, len(batch[0])
    if num_samples > 1:
        rows = [t.expand(num_samples, *t.shape).flatten(0, 1) for t in batch]
    return [
        site._replace(
            value=site.value if site.observed else site.value.unflatten(0, (num_samples, images)),
            log_prob=site.log_prob.view(num_samples, images),
        )
        for site in run(program, rows)
    ]


def _total(sites: list[Site], num_samples: int, images: int) -> Tensor:
    """Add up the sites' log probabilities, `(K, b)`."""
    total = torch.zeros(num_samples, images, device="cpu")
    for site in sites:
        total = total.to(site.log_prob) + site.log_prob
    return total


@checked
@one_line_refusals
@in_evaluation_mode
@torch.no_grad()
def simulate(model: Program, images: Tensor, *labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw images of the shape of `images` from the model; return them and their latents.

    Of `images` only the shape and type are used. The model must have one observed site.

    >>> import torch
    >>> from pyro_vae import Decoder, Model, simulate
    >>> images, latents = simulate(Model(Decoder(latent_dim=2)), torch.zeros(3, 1, 28, 28))
    >>> images.shape, latents["z"].shape
    (torch.Size([3, 1, 28, 28]), torch.Size([3, 2]))
    """
    check_rows(images, *labels, first="images")
    with poutine.trace() as capture:
        poutine.uncondition(model)(images, *labels)
    sites = [site for site in capture.trace.nodes.values() if is_random(site)]
    observed = [site["value"] for site in sites if "was_observed" in site["infer"]]
    latents = {s["name"]: s["value"] for s in sites if "was_observed" not in s["infer"]}
    if len(observed) != 1 or not latents:
        names = [site["name"] for site in sites]
        raise InputError(f"model must have latent sites and one observed site, not {names}")
    return observed[0], latents
