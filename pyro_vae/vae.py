"""One trained autoencoder as one object: a model, a guide, and the config that both come from.

Everything here is a few lines over the functions of the other modules, which take any model and
guide. The networks keep the appendix's parameter names, so that a checkpoint holds `f.N.*` for the
generator and `g.N.*` for the encoder.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pyro_vae.accuracy import log_likelihood, sum_over_labels
from pyro_vae.analysis.interpolation import interpolate
from pyro_vae.analysis.rendering import device_of, latent_sites, rows_like
from pyro_vae.analysis.sampling import Latents, decode, guide_samples, sample
from pyro_vae.data.conversion import Images, Labels, as_batch, as_labels, check_batch
from pyro_vae.errors import InputError, check_choice, check_counts, checked, describe
from pyro_vae.explorer.page import write_page
from pyro_vae.guides import AMORTISED
from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.unlabelled import unlabelled_log_likelihood
from pyro_vae.models import Model
from pyro_vae.networks import ARCHITECTURES
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.priors import PRIORS
from pyro_vae.programs import Program, evaluating, move
from pyro_vae.progress import Progress
from pyro_vae.seeds import seeded
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.owners import check_programs, module_of, name_of
from pyro_vae.storage.tensors import blaming, load_tensors, load_weights, save_tensors

# The settings that `Vae.build` takes. Old checkpoints lack the last four, and mean the defaults.
BUILD = ("latent_dim", "precision", "architecture", "num_classes", "guide", "prior")
CHECKPOINT = {"decoder", "encoder", "config"}  # what every checkpoint holds


@dataclass(eq=False, repr=False)
class Vae:
    """A variational autoencoder: `model`, `guide`, and the `config` by which both are built again.

    Images are `(B, 1, 28, 28)`, or of the shape that networks of your own make. They may also be
    arrays, lists, a Dataset or a DataLoader: see `as_images`. A conditional autoencoder also takes
    the labels y, `(B,)`, after the images or latents. Arguments are moved to the device of the
    weights.

        >>> from pyro_vae import Vae
        >>> vae = Vae.build(latent_dim=2)
        >>> vae.sample(3).shape
        torch.Size([3, 1, 28, 28])

    Model and guide may also be Pyro programs of your own: `Vae(model, guide, example=x[:1])`. The
    `example` is an image that they take, whose shape `decode` and `sample` need. Latents are then
    as in `pyro_vae.analysis.sampling`: a dict where there are several.
    """

    model: Program
    guide: Program
    config: dict = field(default_factory=dict)
    example: Tensor | None = None

    def __repr__(self) -> str:
        """Name the networks, the guide and d; of programs of your own their names."""
        if not isinstance(self.model, Model):
            return f"Vae(model={name_of(self.model)}, guide={name_of(self.guide)})"
        decoder, guide = type(self.model.decoder).__name__, name_of(self.guide)
        return f"Vae(decoder={decoder}, guide={guide}, latent_dim={self.latent_dim})"

    @classmethod
    @checked
    def build(
        cls,
        latent_dim: int = 4,
        *,
        architecture: str = "appendix",
        num_classes: int = 0,
        guide: str = "mean_field",
        prior: str = "standard",
        precision: str = "auto",
    ) -> "Vae":
        """Return an untrained autoencoder with Bernoulli pixels.

        Raises InputError for an unknown name, and for a guide that cannot have so few dimensions.

        Args:
            architecture: "appendix", "per_label" (layers of its own for each label) or "dense"
                (PyTorch's example).
            num_classes: above 0, model and guide take labels y, `(B,)`.
            guide: "mean_field", "full_rank", "mixture", "inverse_autoregressive", "spline" or
                "semi_amortised".
            prior: "standard", N(0, I), or "learned", a flow for each label.
            precision: of the encoder: "float32", "bfloat16", or "auto": bfloat16 where the
                processor multiplies it natively.
        """
        check_choice(ARCHITECTURES, architecture=architecture)
        check_choice(PRIORS, prior=prior)
        check_choice(AMORTISED, guide=guide)
        precision = resolve_precision(precision)
        decoder = ARCHITECTURES[architecture](latent_dim, num_classes)
        model = Model(decoder, prior=PRIORS[prior](latent_dim, num_classes))
        config = {
            "latent_dim": latent_dim,
            "architecture": architecture,
            "num_classes": num_classes,
            "guide": guide,
            "prior": prior,
            "precision": precision,
        }
        return cls(model, AMORTISED[guide](model, precision=precision), config)

    @classmethod
    @checked
    def load(
        cls,
        path: str | Path,
        *,
        model: Program | None = None,
        guide: Program | None = None,
        device: str | torch.device = "cpu",
    ) -> "Vae":
        """Read a checkpoint. No code in the file is run.

        Raises InputError, which names the remedy, if the file is absent, damaged or of another
        program, or if its weights are not finite or not of the shapes its config asks for.

        Args:
            model, guide: programs of your own, of the classes that were saved: their weights become
                those in the file. Without them `Vae.build` makes the programs.
        """
        content = load_tensors(path, "a checkpoint", CHECKPOINT)
        given = {name: p for name, p in (("model", model), ("guide", guide)) if p is not None}
        modules = [module_of(program) for program in given.values()]
        with blaming(path):
            check_programs(content.get("programs", {}), given, path)
            for module, key in zip(modules, ("decoder", "encoder"), strict=False):
                load_weights(module, content[key], path)
            if given:
                vae = cls(model, guide, content["config"], content["example"])
            else:
                vae = _built_of(content, path)
        try:
            return vae.to(device)
        except (RuntimeError, AssertionError) as error:  # unknown, or not of this machine
            raise InputError(f"device {str(device)!r} cannot be used here: try 'cpu'") from error

    @checked
    def save(self, path: str | Path) -> None:
        """Write a checkpoint: state dicts `decoder`, `prior`, `encoder`, and the `config`.

        `family` holds the weights that a guide has beside its encoder's, such as a flow's. Raises
        InputError where `load` would build another autoencoder from the config. Programs of your
        own, modules or methods of modules, are written as weights and names.
        """
        save_tensors(path, self._built() if self.config.keys() & {*BUILD} else self._own())

    def _own(self) -> dict:
        """Return what a checkpoint holds of programs of the user's own."""
        return {
            "decoder": module_of(self.model).state_dict(),
            "encoder": module_of(self.guide).state_dict(),
            "programs": {"model": name_of(self.model), "guide": name_of(self.guide)},
            "example": None if self.example is None else torch.zeros_like(self.example[:1]),
            "config": self.config,
        }

    def _built(self) -> dict:
        """Return what a checkpoint holds of an autoencoder that `Vae.build` can build again."""
        if not isinstance(self.guide, Amortised):
            raise InputError(
                f"guide is a {type(self.guide).__name__}, which has no encoder to store: save the "
                "autoencoder with its amortised guide"
            )
        if not {"latent_dim", "precision"} <= self.config.keys():
            raise InputError("config must hold latent_dim and precision, to build from it again")
        encoder = self.guide.encoder.state_dict()
        again = _built_again(self.config, encoder)
        for name in ("model", "guide"):
            module: nn.Module = getattr(self, name)
            if fingerprint(module, weights=False) != fingerprint(
                getattr(again, name), weights=False
            ):
                raise InputError(
                    f"{name} does not match the config, {_building(self.config)}: save programs of "
                    "your own without it, Vae(model, guide).save(path)"
                )
        family = self.guide.state_dict().items()
        return {
            "decoder": self.model.decoder.state_dict(),
            "prior": self.model.prior.state_dict(),
            "encoder": encoder,
            "family": {name: w for name, w in family if not name.startswith("encoder.")},
            "config": self.config,
        }

    def to(self, device: str | torch.device | torch.dtype) -> "Vae":
        """Move the weights to a device or dtype, in place, and return the autoencoder."""
        move(device, self.model, self.guide)
        if self.example is not None:
            self.example = self.example.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are; without any, where the example is."""
        return device_of(self.model, torch.empty(0) if self.example is None else self.example)

    @property
    def latent_dim(self) -> int:
        """The number d of latent dimensions."""
        if isinstance(self.model, Model):
            return self.model.decoder.latent_dim
        with evaluating(self.model):
            sites = latent_sites(self.model, rows_like(self.model, self.example, 1))
        return sum(site.fn.event_shape.numel() for site in sites)

    def here(self, *tensors: Tensor) -> list[Tensor]:
        """Return `tensors` on the device of the weights."""
        return [tensor.to(device_of(self.model, tensor)) for tensor in tensors]

    def refined(self, **options: object) -> "Vae":
        """Return the same model with the refined guide: a proposal fitted to each image.

        It passes the k-hat rule where this guide does not. `options` are those of `Refined`.
        """
        guide = Refined(self.model, self.guide, **options)
        return Vae(self.model, guide, self.config, self.example)

    @checked
    def log_likelihood(
        self,
        x: Images,
        *labels: Labels,
        num_samples: int | None = None,
        se: float | None = None,
        seed: int = 0,
        mask: Tensor | np.ndarray | None = None,
        progress: Progress = None,
    ) -> Estimate:
        """Estimate log p(x), or log p(x | y), of each image, in nats; see `log_likelihood`.

        Ask for `num_samples` of the guide, or for a standard error: `se=0.1`. Without labels a
        conditional autoencoder sums over them: see `unlabelled_log_likelihood`.
        """
        options = {"num_samples": num_samples, "seed": seed, "mask": mask, "progress": progress}
        batch = self.here(*as_batch(self.model, x, *labels, progress=progress))
        num_classes = self.config.get("num_classes", 0)
        if num_classes and len(batch) == 1:
            labels = torch.arange(num_classes, device=batch[0].device)
            if se is not None:
                return sum_over_labels(self.model, self.guide, *batch, labels, se=se, **options)
            options["num_samples"] = 100 if num_samples is None else num_samples
            return unlabelled_log_likelihood(
                self.model, self.guide, *batch, labels=labels, **options
            )
        return log_likelihood(self.model, self.guide, *batch, se=se, **options)

    @checked
    def to_html(
        self,
        path: str | Path,
        images: Images | None = None,
        labels: Labels | None = None,
        classes: tuple[str, ...] = tuple("0123456789"),
        progress: Progress = None,
    ) -> None:
        """Write a page to play with this autoencoder: one HTML file, which needs no network.

        Its sliders move z; it draws, reconstructs and scores what is drawn on it. The first 20
        `images` can be chosen on it, and all are dots of its scatter. InputError names what the
        page can't run.

        >>> from pyro_vae import Vae, load_dataset
        >>> x = load_dataset("digits").test_images[:20]
        >>> Vae.build(2, architecture="dense").to_html("page.html", x)
        """
        if images is not None:
            given = [images] if labels is None else [images, labels]
            images, *rest = as_batch(self.model, *given, name="images")
            labels = rest[0] if rest else None
        programs = {repr(self): (self.model, self.guide)}
        write_page(programs, path, images, labels, classes=classes, progress=progress)

    @checked
    def reconstruct(
        self, x: Images, *labels: Labels, num_samples: int = 1, seed: int = 0
    ) -> Tensor:
        """Return the mean images at samples of the guide, `(num_samples, B, 1, 28, 28)`."""
        batch = self.here(*as_batch(self.model, x, *labels))
        check_batch(self.model, self.guide, *batch)
        z = guide_samples(self.guide, *batch, num_samples=num_samples, seed=seed)
        return decode(self.model, z, *batch[1:], like=batch[0])

    @checked
    def decode(self, z: Latents, *labels: Labels) -> Tensor:
        """Return the mean image of each latent `z`, `(*, d)`: `(*, 1, 28, 28)`.

        For new images use `sample`: draws of N(0, I) are no draws of a learned prior.
        """
        z = z if isinstance(z, dict) else self.here(z)[0]
        rows = self.here(*(as_labels(y, torch.empty(0)) for y in labels))
        return decode(self.model, z, *rows, like=self.example)

    @checked
    def sample(self, n: int, *labels: Labels, seed: int = 0, pixels: bool = False) -> Tensor:
        """Draw `n` images from the model, with the labels y, `(n,)`, where it takes them.

        They are mean images, or with `pixels` draws of p(x | z): of `build`, black or white.
        """
        rows = self.here(*(as_labels(y, torch.empty(0)) for y in labels))
        return sample(self.model, n, *rows, like=self.example, seed=seed, pixels=pixels)

    @checked
    def interpolate(self, x0: Images, x1: Images, *labels: Labels, steps: int = 11) -> Tensor:
        """Return the mean images along the line between two images, `(steps, B, 1, 28, 28)`.

        The line joins the guide's means of `x0` and `x1`, both `(B, 1, 28, 28)`. It is straight in
        the style e, which is z itself under the prior N(0, I), and in programs of your own.
        """
        check_counts(2, steps=steps)
        x0, *labels = as_batch(self.model, x0, *labels, name="x0")
        x1 = as_batch(self.model, x1, name="x1")[0]
        check_batch(self.model, self.guide, x0, *labels, name="x0")
        if x1.shape != x0.shape:
            raise InputError(f"x1 must have the shape of x0, {tuple(x0.shape)}, not {describe(x1)}")
        x, *both = self.here(torch.cat([x0, x1]), *(torch.cat([y, y]) for y in labels))
        return interpolate(self.model, self.guide, steps, x, *both)


def _in_current_terms(config: dict) -> dict:
    """Return a checkpoint's config by today's names of the settings: older files are read too."""
    former = {"classes": "num_classes", "shards": "batch_parts"}
    current = {former.get(name, name): value for name, value in config.items()}
    if "decay" in current:
        current["schedule"] = "cosine" if current.pop("decay") else "constant"
    return current


def _building(config: dict) -> dict:
    """Return those entries of a checkpoint's config that `Vae.build` takes."""
    return {name: config[name] for name in BUILD if name in config}


def _built_of(content: dict, path: str | Path) -> Vae:
    """Return the autoencoder of a checkpoint of `Vae.build`."""
    config = _in_current_terms(content["config"])
    vae = _built_again(config, content["encoder"])
    load_weights(vae.model.decoder, content["decoder"], path)
    load_weights(vae.model.prior, content.get("prior", {}), path)
    weights = {f"encoder.{name}": w for name, w in content["encoder"].items()}
    load_weights(vae.guide, weights | content.get("family", {}), path)
    return Vae(vae.model, vae.guide, config)


def _built_again(config: dict, encoder: dict[str, Tensor]) -> Vae:
    """Build the untrained autoencoder of a config, in the dtype of the stored weights `encoder`.

    The caller's random state is left as it was.
    """
    with torch.device("cpu"), seeded(0, torch.empty(0)):
        vae = Vae.build(**_building(config))
        return vae.to(next(iter(encoder.values()), torch.empty(0)).dtype)
