"""The page of the explorer, in a real browser: its numbers against torch's and ArviZ's."""

import shutil
import time

import numpy as np
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_vae import InputError, Model, Vae, load_dataset, pareto_khat
from pyro_vae.explorer.layers import Weights, layers_of
from pyro_vae.explorer.page import write_page
from pyro_vae.models import ContinuousBernoulli

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
KINDS = {
    "appendix": {"latent_dim": 3},
    "dense": {"latent_dim": 2, "architecture": "dense"},
    "per_label": {
        "latent_dim": 3, "architecture": "per_label", "num_classes": 10, "prior": "learned",
    },
    "one_hot": {"latent_dim": 2, "num_classes": 10},
}  # fmt: skip


@pytest.fixture(scope="module")
def vaes():
    """Untrained, in float32, their encoders rounded to float16, as the page's are."""
    torch.manual_seed(0)
    made = {}
    for name, options in KINDS.items():
        vae = Vae.build(**options, precision="float32")
        for w in vae.guide.encoder.parameters():
            if w.dim() > 1:
                w.data = w.half().float()
        for w in vae.model.prior.parameters():  # else the learned maps are the identity
            w.data = 0.05 * torch.randn_like(w)
        made[name] = vae
    return made


@pytest.fixture(scope="module")
def data():
    digits = load_dataset("digits")
    return digits.test_images[:30], digits.test_labels[:30]


@pytest.fixture(scope="module")
def path(vaes, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page with spaces.html"
    programs = {name: (vae.model, vae.guide) for name, vae in vaes.items()}
    write_page(programs, path, *data)
    return path


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, path):
    """The page, opened as a file; at the end it has asked for nothing and complained of nothing."""
    page = browser.new_page(viewport={"width": 1080, "height": 820})
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    yield page
    assert complaints == []
    assert [url for url in asked if not url.startswith("blob:")] == [path.as_uri()]
    page.close()


def latents(vae, count=50):
    return torch.randn(count, vae.latent_dim, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_gives_torchs_logits(page, vaes, kind):
    vae, number = vaes[kind], [*KINDS].index(kind)
    z = latents(vae)
    y = torch.arange(50) % 10
    found = page.evaluate(
        "([i, zs, ys]) => zs.map((z, k) => Array.from(logitsAt(models[i], z, ys[k])))",
        [number, z.tolist(), y.tolist()],
    )
    with torch.no_grad():
        expected = vae.model.decoder(z, *([y] if vae.config["num_classes"] else []))
    np.testing.assert_allclose(found, expected.flatten(1), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_gives_torchs_moments(page, vaes, data, kind):
    vae, number = vaes[kind], [*KINDS].index(kind)
    x, y = data
    found = page.evaluate(
        "([i, xs, ys]) => xs.map((x, k) => { const q = encode(models[i], x, ys[k]);"
        " return [Array.from(q.loc), Array.from(q.sd)]; })",
        [number, x.flatten(1).tolist(), y.tolist()],
    )
    with torch.no_grad():
        q = vae.guide.q(x, *([y] if vae.config["num_classes"] else [])).base_dist
    np.testing.assert_allclose(found, torch.stack([q.loc, q.scale], 1), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_log_weights_are_the_packages(page, vaes, data, kind):
    """log p(z) + log p(x | z) - log q(z | x), of the page's own draws."""
    vae, number = vaes[kind], [*KINDS].index(kind)
    x, y = data[0][:8], data[1][:8]
    drawn = page.evaluate(
        "([i, xs, ys]) => xs.map((x, k) => { const d = drawOfGuide(models[i], x, ys[k],"
        " encode(models[i], x, ys[k]), randomNumbers(k)); return {...d, z: Array.from(d.z)}; })",
        [number, x.flatten(1).tolist(), y.tolist()],
    )
    z = torch.tensor([draw["z"] for draw in drawn])
    labels = [y] if vae.config["num_classes"] else []
    with torch.no_grad():
        log_p, log_q = (
            poutine.trace(poutine.condition(program, {"z": z})).get_trace(x, *labels).log_prob_sum
            for program in (vae.model, vae.guide)
        )
        found = sum(draw["prior"] + draw["logP"] for draw in drawn)
        assert found == pytest.approx(float(log_p()), abs=1e-3 * len(x))
        assert sum(d["logQ"] for d in drawn) == pytest.approx(float(log_q()), abs=1e-3 * len(x))
    for draw in drawn:
        assert draw["logW"] == pytest.approx(draw["prior"] + draw["logP"] - draw["logQ"])


def test_a_style_comes_back_from_its_latent(page):
    found = page.evaluate(
        "() => [0, 4, 9].map((y) => Array.from(styleOf(models[2],"
        " latentOf(models[2], [0.3, -1.2, 0.8], y), y).e))"
    )
    np.testing.assert_allclose(found, [[0.3, -1.2, 0.8]] * 3, atol=1e-6)


def test_khat_is_the_packages(page):
    rng = np.random.default_rng(0)
    log_w = rng.exponential(rng.uniform(0.1, 1.5, 40), (300, 40)) + rng.normal(0, 50, 40)
    found = page.evaluate("(sets) => sets.map(paretoKhat)", log_w.T.tolist())
    np.testing.assert_allclose(found, pareto_khat(log_w), atol=1e-6)


def test_the_refined_proposal_finds_log_p(page, vaes, data):
    """Against the package's, at an untrained model, whose posterior is near the prior."""
    x, y = data[0][:2], data[1][:2]
    found = page.evaluate(
        "([xs, ys]) => xs.map((x, k) => refine(models[1], x, ys[k], 3, () => {}))",
        [x.flatten(1).tolist(), y.tolist()],
    )
    expected = vaes["dense"].refined().log_likelihood(x, se=0.02)
    for one, value in zip(found, expected.value, strict=True):
        assert one["trusted"]
        assert one["value"] == pytest.approx(value, abs=0.15)


def test_every_control_works_in_every_view(page):
    """Any error would be a complaint, which the fixture refuses."""
    for model in range(len(KINDS)):
        page.select_option("#model", str(model))
        for view in ("latent", "draw", "trust", "style", "between"):
            if page.is_hidden(f"[data-view={view}]"):
                assert view == "style"
                assert KINDS[[*KINDS][model]].get("num_classes") is None
                continue
            page.click(f"[data-view={view}]")
            page.click("#strip button:nth-child(4)")
            for control in page.query_selector_all(f"#{view} input, #{view} select"):
                control.evaluate(
                    "c => { if (c.options) c.selectedIndex = 1; else c.value = 0.6;"
                    " c.dispatchEvent(new Event('input')); c.dispatchEvent(new Event('change')); }"
                )
            for button in page.query_selector_all(f"#{view} button"):
                if button.is_visible():
                    button.click()
    page.click("[data-view=latent]")
    page.hover("#scatter", position={"x": 100, "y": 80})
    assert "log p(x | z) = −" in page.inner_text("#densities")


def test_a_slider_moves_the_image(page):
    before = page.evaluate("byId('decoded').toDataURL()")
    page.focus("#sliders input")
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("byId('decoded').toDataURL()") != before


def draw(page, *points):
    box = page.locator("#pad").bounding_box()
    for move, (right, down) in enumerate(points):
        page.mouse.move(box["x"] + right, box["y"] + down, steps=4)
        if move == 0:
            page.mouse.down()
    page.mouse.up()


def test_a_drawing_is_centred_scored_and_judged(page):
    page.click("[data-view=draw]")
    draw(page, (40, 40), (110, 40), (80, 130))
    found = np.array(page.evaluate("Array.from(chosen.pixels)")).reshape(28, 28)
    rows, columns = np.indices((28, 28))
    assert (found * rows).sum() / found.sum() == pytest.approx(13.5, abs=0.5)
    assert (found * columns).sum() / found.sum() == pytest.approx(13.5, abs=0.5)
    assert page.evaluate("chosen.image") == -1
    page.click("[data-view=trust]")
    page.click("#sample100")
    page.click("#refine")
    page.wait_for_function("byId('refinedTrusted').textContent !== ''", timeout=60_000)
    page.wait_for_function("weights.length === 100", timeout=60_000)
    assert page.inner_text("#trusted") in ("yes", "no")
    assert page.inner_text("#refinedTrusted") == "yes"


def test_a_blank_drawing_gets_an_answer(page):
    page.click("[data-view=draw]")
    page.click("#clear")
    assert page.inner_text("#drawn").startswith("The image is blank.")
    page.click("[data-view=trust]")
    assert "blank" in page.inner_text("#trustNote")


def test_the_images_refined_values_are_shown(page, vaes, data):
    page.click("[data-view=trust]")
    page.click("#strip button:nth-child(6)")
    expected = vaes["appendix"].refined().log_likelihood(data[0][:20], se=0.1, seed=31)
    shown = float(page.inner_text("#refinedValue").replace("−", "-"))
    assert shown == pytest.approx(expected.value[5], abs=0.01)


@pytest.mark.parametrize("width", [390, 1080])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(browser, path, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(path.as_uri())
    for view in ("latent", "draw", "trust", "between"):
        page.click(f"[data-view={view}]")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_a_page_without_images_draws_from_the_prior(browser, vaes, tmp_path):
    vaes["dense"].to_html(tmp_path / "bare.html")
    page = browser.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "bare.html").as_uri())
    page.click("#random")
    for view in ("draw", "trust", "between"):
        page.click(f"[data-view={view}]")
    time.sleep(0.1)
    assert complaints == []
    assert "no images" in page.inner_text("#strip")
    page.close()


PIXELS = nn.Linear(2, 784), nn.Unflatten(1, (1, 28, 28))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([nn.Linear(2, 9), nn.GELU(), nn.Linear(9, 784)], r"doesn't know the layer GELU\("),
        (
            [nn.Linear(2, 784), nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 1, 3, padding=1)],
            "stride",
        ),
        ([nn.Linear(2, 784), nn.Unflatten(1, (1, 28, 28)), nn.MaxPool2d(3, 1)], "side by side"),
        ([nn.Linear(2, 9), nn.Linear(8, 784)], "follows 9 numbers"),
        ([nn.Linear(2, 9)], "not 784 numbers"),
    ],
)
def test_what_the_page_cannot_run_is_named(layers, said):
    with pytest.raises(InputError, match=said):
        layers_of(nn.Sequential(*layers), (2,), 784, 0, Weights(), False)


def test_other_programs_are_refused(vaes, data, tmp_path):
    vae = vaes["dense"]
    path = tmp_path / "page.html"
    with pytest.raises(InputError, match="takes a Model with a MeanField guide, not"):
        vae.refined().to_html(path)
    with pytest.raises(InputError, match="Bernoulli pixels"):
        Vae(Model(vae.model.decoder, ContinuousBernoulli), vae.guide).to_html(path)
    with pytest.raises(InputError, match="labels of the images"):
        vaes["per_label"].to_html(path, data[0])
    with pytest.raises(InputError, match=r"one nn\.Sequential"):
        layers_of(nn.Linear(2, 784), (2,), 784, 0, Weights(), False)
    assert not path.exists()


def test_a_slider_is_faster_than_a_frame(page):
    """Median of 40 moves: 2 ms on the reference machine; the bound leaves room for a busy one."""
    milliseconds = page.evaluate(
        """() => {
          const slider = document.querySelector("#sliders input");
          return Array.from({ length: 40 }, (_, i) => {
            const start = performance.now();
            slider.value = 0.1 + 0.02 * i;
            slider.dispatchEvent(new Event("input"));
            return performance.now() - start;
          });
        }"""
    )
    assert np.median(milliseconds) < 16
