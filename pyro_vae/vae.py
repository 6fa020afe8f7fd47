"""One trained autoencoder as one object: a model, a guide, and the config that both come from.

Everything here is a few lines over the functions of the other modules, which take any model and
guide. The networks keep the appendix's parameter names, so that a checkpoint holds `f.N.*` for the
generator and `g.N.*` for the encoder.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_vae.analysis.sampling import (
    decode,
    decode_style,
    guide_samples,
    pixel_samples,
    posterior_moments,
)
from pyro_vae.errors import (
    InputError,
    check_choice,
    check_counts,
    check_rows,
    check_seed,
    checked,
    describe,
)
from pyro_vae.guides import AMORTISED
from pyro_vae.guides.amortised import Amortised
from pyro_vae.guides.refined import Refined
from pyro_vae.likelihood.estimate import Estimate
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.likelihood.traces import Program
from pyro_vae.models import Model
from pyro_vae.networks import ARCHITECTURES
from pyro_vae.networks.precision import resolve_precision
from pyro_vae.priors import PRIORS
from pyro_vae.seeds import seeded
from pyro_vae.storage.fingerprint import fingerprint
from pyro_vae.storage.tensors import blaming, load_tensors, load_weights, save_tensors

# The settings that `Vae.build` takes. Old checkpoints lack the last four, and mean the defaults.
BUILD = ("latent_dim", "precision", "architecture", "num_classes", "guide", "prior")


@dataclass(eq=False, repr=False)
class Vae:
    """A variational autoencoder: `model`, `guide`, and the `config` by which both are built again.

    Images are `(B, 1, 28, 28)`. A conditional autoencoder also takes the labels y, `(B,)`, after
    the images or latents. Arguments are moved to the device of the weights.

        >>> from pyro_vae import Vae
        >>> vae = Vae.build(latent_dim=2)
        >>> vae.sample(3).shape
        torch.Size([3, 1, 28, 28])
    """

    model: Model
    guide: Program
    config: dict = field(default_factory=dict)

    def __repr__(self) -> str:
        """Name the networks, the guide and d."""
        decoder, guide = type(self.model.decoder).__name__, type(self.guide).__name__
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
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> "Vae":
        """Read a checkpoint. No code in the file is run.

        Raises InputError, which names the remedy, if the file is absent, damaged or of another
        program, or if its weights are not finite or not of the shapes its config asks for.
        """
        content = load_tensors(path, "a checkpoint", {"decoder", "encoder", "config"})
        with blaming(path):
            config = _in_current_terms(content["config"])
            vae = _built_again(config, content["encoder"])
            load_weights(vae.model.decoder, content["decoder"], path)
            load_weights(vae.model.prior, content.get("prior", {}), path)
            weights = {f"encoder.{name}": w for name, w in content["encoder"].items()}
            load_weights(vae.guide, weights | content.get("family", {}), path)
        try:
            return cls(vae.model, vae.guide, config).to(device)
        except (RuntimeError, AssertionError) as error:  # unknown, or not of this machine
            raise InputError(f"device {str(device)!r} cannot be used here: try 'cpu'") from error

    @checked
    def save(self, path: str | Path) -> None:
        """Write a checkpoint: state dicts `decoder`, `prior`, `encoder`, and the `config`.

        `family` holds the weights that a guide has beside its encoder's, such as a flow's. Raises
        InputError where `load` would build another autoencoder from the config.
        """
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
                    f"{name} does not match the config, {_building(self.config)}: save the weights "
                    f"of a {name} of your own by torch.save({name}.state_dict(), path)"
                )
        save_tensors(
            path,
            {
                "decoder": self.model.decoder.state_dict(),
                "prior": self.model.prior.state_dict(),
                "encoder": encoder,
                "family": {
                    name: w
                    for name, w in self.guide.state_dict().items()
                    if not name.startswith("encoder.")
                },
                "config": self.config,
            },
        )

    def to(self, device: str | torch.device | torch.dtype) -> "Vae":
        """Move the weights to a device or dtype, in place, and return the autoencoder."""
        for program in (self.model, self.guide):
            if hasattr(program, "to"):  # a plain function has no weights
                program.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def latent_dim(self) -> int:
        """The number d of latent dimensions."""
        return self.model.decoder.latent_dim

    def here(self, *tensors: Tensor) -> list[Tensor]:
        """Return `tensors` on the device of the weights."""
        return [tensor.to(self.device) for tensor in tensors]

    def refined(self, **options: object) -> "Vae":
        """Return the same model with the refined guide: a proposal fitted to each image.

        It passes the k-hat rule where this guide does not. `options` are those of `Refined`.
        """
        return Vae(self.model, Refined(self.model, self.guide, **options), self.config)

    @checked
    def log_likelihood(
        self,
        x: Tensor,
        *labels: Tensor,
        num_samples: int = 100,
        seed: int = 0,
        progress: str | None = None,
    ) -> Estimate:
        """Estimate log p(x), or log p(x | y), of each image, in nats; see `log_likelihood`."""
        return log_likelihood(
            self.model,
            self.guide,
            *self.here(x, *labels),
            num_samples=num_samples,
            seed=seed,
            progress=progress,
        )

    @checked
    def reconstruct(
        self, x: Tensor, *labels: Tensor, num_samples: int = 1, seed: int = 0
    ) -> Tensor:
        """Return the mean images at samples of the guide, `(num_samples, B, 1, 28, 28)`."""
        batch = self.here(x, *labels)
        z = guide_samples(self.guide, *batch, num_samples=num_samples, seed=seed)
        return decode(self.model, z, *batch[1:])

    @checked
    def decode(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Return the mean image of each latent `z`, `(*, d)`: `(*, 1, 28, 28)`."""
        return decode(self.model, *self.here(z, *labels))

    @checked
    def sample(self, n: int, *labels: Tensor, seed: int = 0, pixels: bool = False) -> Tensor:
        """Draw `n` images from the model, with the labels y, `(n,)`, where it takes them.

        They are mean images, or with `pixels` draws of p(x | z), which are black or white.
        """
        check_counts(n=n)
        check_seed(seed)
        style = torch.randn(n, self.latent_dim, generator=torch.Generator().manual_seed(seed))
        images = decode_style(
            self.model, style.to(next(self.model.parameters())), *self.here(*labels)
        )
        return pixel_samples(images, seed) if pixels else images

    @checked
    def interpolate(self, x0: Tensor, x1: Tensor, *labels: Tensor, steps: int = 11) -> Tensor:
        """Return the mean images along the line between two images, `(steps, B, 1, 28, 28)`.

        The line joins the guide's means of `x0` and `x1`, both `(B, 1, 28, 28)`. It is straight in
        the style e, which is z itself under the prior N(0, I).
        """
        check_counts(2, steps=steps)
        check_rows(x0, *labels, first="x0")
        if x1.shape != x0.shape:
            raise InputError(f"x1 must have the shape of x0, {tuple(x0.shape)}: {describe(x1)}")
        x, *both = self.here(torch.cat([x0, x1]), *(torch.cat([y, y]) for y in labels))
        mean, _ = posterior_moments(self.guide, x, *both)
        with torch.no_grad():
            start, end = self.model.prior.style(mean.to(x), *both).split(len(x0))
        line = torch.lerp(start, end, torch.linspace(0, 1, steps).to(x)[:, None, None])
        images = decode_style(self.model, line.flatten(0, 1), *(y.repeat(steps) for y in labels))
        return images.unflatten(0, (steps, len(x0)))


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


def _built_again(config: dict, encoder: dict[str, Tensor]) -> Vae:
    """Build the untrained autoencoder of a config, in the dtype of the stored weights `encoder`.

    The caller's random state is left as it was.
    """
    with seeded(0, torch.empty(0)):
        vae = Vae.build(**_building(config))
    return vae.to(next(iter(encoder.values()), torch.empty(0)).dtype)
