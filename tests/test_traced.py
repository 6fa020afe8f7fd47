"""Programs that Pyro's JIT bounds and torch.compile trace give the numbers of those that run.

`backend="eager"` traces as any backend does, and needs no compiler.
"""

import copy
import warnings

import pyro
import pytest
import torch
from pyro.infer import JitTrace_ELBO, Trace_ELBO

from pyro_vae.errors import InputError
from pyro_vae.guides.prior import PriorGuide
from pyro_vae.likelihood.importance import log_likelihood
from pyro_vae.problems import LinearGaussian
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae

# by torch: of the future of its JIT, and of what its compiler looks at
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:torch")
# compiling takes longer than what is compiled
NETWORKS = [
    ("dense", 0),
    pytest.param("appendix", 0, marks=pytest.mark.slow),
    pytest.param("per_label", 10, marks=pytest.mark.slow),
]


@pytest.fixture(autouse=True)
def _no_compiled_code():
    validation = pyro.settings.get("validate_distributions_torch")
    yield
    torch.compiler.reset()
    pyro.settings.set(validate_distributions_torch=validation)  # torch's compiler turns it off


def rows_of(digits, num_classes, images=20):
    rows = (digits.train_images[:images], digits.train_labels[:images])
    return rows[: 1 + (num_classes > 0)]


class TracedInAdvance(JitTrace_ELBO):
    """Pyro's bound, without the random numbers and gradients that tracing leaves at the first step.

    Pyro runs the programs twice before it takes the step.
    """

    traced = False

    def loss_and_grads(self, model, guide, *batch):
        if not self.traced:
            state, self.traced = torch.get_rng_state(), True
            super().loss_and_grads(model, guide, *batch)
            torch.set_rng_state(state)
            for _, w in pyro.get_param_store().named_parameters():
                w.grad = None
        return super().loss_and_grads(model, guide, *batch)


@pytest.mark.parametrize(
    ("architecture", "num_classes", "options"),
    [
        ("appendix", 0, {}),
        ("appendix", 10, {"precision": "bfloat16"}),
        ("dense", 0, {"prior": "learned"}),
        ("per_label", 10, {"prior": "learned"}),
        ("per_label", 10, {"guide": "full_rank"}),
        ("dense", 10, {"guide": "inverse_autoregressive"}),
        ("dense", 0, {"guide": "spline"}),
    ],
)
def test_pyros_jit_bound_trains_as_trace_elbo_does(architecture, num_classes, options, digits):
    """The last batch is smaller. ELBOs agree to 1e-5, relative, after nine steps of training."""
    rows, histories = rows_of(digits, num_classes, 50), []
    for elbo in (Trace_ELBO(), TracedInAdvance(ignore_jit_warnings=True)):
        torch.manual_seed(0)
        programs = build_vae(3, architecture=architecture, num_classes=num_classes, **options)
        settings = {"epochs": 3, "batch_size": 20, "elbo": elbo, "progress": False}
        histories.append(fit(*programs, rows, rows, **settings))
    for plain, traced in zip(*histories, strict=True):
        assert traced == pytest.approx(plain, rel=1e-5)
    assert histories[0][-1]["train_elbo"] > histories[0][0]["train_elbo"] + 1


def test_a_trace_of_the_prior_guide_and_of_the_exact_problem(digits):
    """Of batches of other sizes than the traced one, in float32 to 1e-6 and float64 to 1e-12."""
    model, _ = build_vae(3, architecture="dense", prior="learned")
    model.requires_grad_(False)  # not registered here, as fit does
    problem = LinearGaussian()
    for programs, x, rel in (
        ((model, PriorGuide(model)), digits.train_images[:30], 1e-6),
        ((problem.model, problem.wide_guide), problem.data(30), 1e-12),
    ):
        traced = JitTrace_ELBO(ignore_jit_warnings=True)
        traced.loss_and_surrogate_loss(*programs, x)
        for images in (30, 7, 1):
            torch.manual_seed(1)
            expected = Trace_ELBO().loss(*programs, x[:images])
            torch.manual_seed(1)
            found, _ = traced.loss_and_surrogate_loss(*programs, x[:images])
            assert float(found) == pytest.approx(expected, rel=rel)


@pytest.mark.parametrize("guide", ["mixture", "semi_amortised"])
def test_guides_that_torch_jit_cannot_trace_say_so(guide, digits):
    programs = build_vae(3, architecture="dense", guide=guide)
    elbo = JitTrace_ELBO(ignore_jit_warnings=True)
    with pytest.raises(InputError, match=r"torch.jit cannot trace a .* guide: use Trace_ELBO"):
        fit(*programs, rows_of(digits, 0), epochs=1, elbo=elbo, progress=False)


def test_a_trace_brings_no_warning_of_this_packages_own(digits):
    """torch and Pyro warn of their own code; `JitTrace_ELBO(ignore_jit_warnings=True)` of none."""
    for num_classes in (0, 10):
        programs = build_vae(3, num_classes=num_classes, guide="full_rank", prior="learned")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows = rows_of(digits, num_classes)
            fit(*programs, rows, epochs=1, elbo=JitTrace_ELBO(), progress=False)
        traced = [w for w in caught if issubclass(w.category, torch.jit.TracerWarning)]
        assert traced, "torch warns of its own broadcasting"
        assert not [w.filename for w in traced if "pyro_vae" in w.filename]


@pytest.mark.parametrize(("architecture", "num_classes"), NETWORKS)
def test_compiled_networks_give_the_same_numbers(architecture, num_classes, digits):
    """With and without gradients, and for fewer images than the first time."""
    model, guide = build_vae(3, architecture=architecture, num_classes=num_classes)
    x, *labels = rows_of(digits, num_classes)
    for network, inputs in ((model.decoder, torch.randn(20, 3)), (guide.encoder, x)):
        compiled = torch.compile(copy.deepcopy(network), backend="eager")
        for images in (20, 7):
            batch = (inputs[:images], *(y[:images] for y in labels))
            with torch.no_grad():
                assert torch.equal(compiled(*batch), network(*batch))
            results = [f(*batch).square().sum() for f in (compiled, network)]
            gradients = [
                torch.autograd.grad(result, list(f.parameters()))
                for f, result in zip((compiled, network), results, strict=True)
            ]
            assert all(map(torch.equal, *gradients))


def test_a_compiled_network_checks_its_images_and_labels(digits):
    model, guide = build_vae(3, architecture="dense", num_classes=10)
    x, y = rows_of(digits, 10)
    encoder = torch.compile(guide.encoder, backend="eager")
    decoder = torch.compile(model.decoder, backend="eager")
    encoder(x, y)
    decoder(torch.zeros(20, 3), y)
    with pytest.raises(InputError, match="divide grey levels"):
        encoder(255 * x, y)
    with pytest.raises(InputError, match="labels from 0 to 9"):
        decoder(torch.zeros(20, 3), y + 9)


@pytest.mark.parametrize(
    ("architecture", "num_classes"),
    [
        pytest.param("dense", 0, marks=pytest.mark.slow),
        pytest.param("appendix", 0, marks=pytest.mark.slow),
        pytest.param("per_label", 10, marks=pytest.mark.slow),
    ],
)
def test_compiled_programs_train_and_score_as_they_do_uncompiled(architecture, num_classes, digits):
    rows, results = rows_of(digits, num_classes, 50), []
    for compiled in (False, True):
        torch.manual_seed(0)
        programs = build_vae(3, architecture=architecture, num_classes=num_classes)
        if compiled:
            programs = [torch.compile(program, backend="eager") for program in programs]
        history = fit(*programs, rows, epochs=2, batch_size=20, progress=False)
        few = [tensor[:3] for tensor in rows]
        results.append((history, log_likelihood(*programs, *few, num_samples=10).value.tolist()))
    assert results[0] == results[1]
