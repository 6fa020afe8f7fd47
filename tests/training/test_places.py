"""Trainings that go on elsewhere: in a file, under another Python or torch, by a later release."""

import pyro
import pytest
import torch

from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import MeanField
from pyro_vae.storage.tensors import save_tensors
from pyro_vae.training.fit import fit
from tests.autoencoders import build_vae


def train(digits, path, epochs, place="__main__", name="MyGuide", layers=2, **options):
    """A short training with a guide of the class `place`.`name`: its weights."""
    torch.manual_seed(0)
    model, guide = build_vae(2, architecture="dense")
    guide.__class__ = type(name, (MeanField,), {"__module__": place})
    if layers == 3:
        guide.more = torch.nn.Linear(2, 2)
    options = {"state_path": path, "resume": True, "progress": False} | options
    pyro.set_rng_seed(0)
    fit(model, guide, (digits.train_images[:100],), epochs=epochs, batch_size=50, **options)
    return [w.clone() for module in (model, guide) for w in module.state_dict().values()]


@pytest.mark.parametrize(("was", "now"), [("__main__", "mine"), ("mine", "__main__")])
def test_a_class_that_moved_between_a_notebook_and_a_file_goes_on(digits, tmp_path, was, now):
    alone = train(digits, tmp_path / "alone.pt", 2, was)
    train(digits, tmp_path / "state.pt", 1, was)
    moved = f"{was}.MyGuide is taken for the same class as {now}.MyGuide"
    with pytest.warns(UserWarning, match=f"state.pt: {moved}$") as warned:
        again = train(digits, tmp_path / "state.pt", 2, now)
    assert warned[0].filename == __file__  # the line that called this package
    assert all(map(torch.equal, again, alone))
    train(digits, tmp_path / "state.pt", 2, now)  # the state is this place's now


def test_another_class_is_named_beside_the_one_that_was(digits, tmp_path):
    path = tmp_path / "state.pt"
    for was, (place, name) in (
        ("mine", ("yours", "MyGuide")),
        ("__main__", ("mine", "YourGuide")),
    ):
        train(digits, path, 1, was, resume=False)
        with pytest.raises(InputError) as found:
            train(digits, path, 2, place, name)
        remedy = " (import it from mine)" if name == "MyGuide" else ""
        there, here = f"{was}.MyGuide", f"{place}.{name}{remedy}"
        message = f"was trained with guide {there}, not {here}: resume with the same"
        assert message in str(found.value)
    with pytest.raises(InputError, match=r"with guide\.more absent, not torch\..*\.Linear: resume"):
        train(digits, path, 2, layers=3)


def test_other_images_are_said_in_words(digits, tmp_path):
    path = tmp_path / "state.pt"
    test = (digits.test_images[:50],)
    train(digits, path, 1, test=test)
    with pytest.raises(InputError, match="was trained with other test images: resume"):
        train(digits, path, 2, test=(digits.test_images[50:100],))
    shapes = r"float32 \(50, 1, 28, 28\), not float32 \(49, 1, 28, 28\)"
    with pytest.raises(InputError, match=f"was trained with test images {shapes}: resume"):
        train(digits, path, 2, test=(digits.test_images[:49],))
    with pytest.raises(InputError, match=r"with test images float32 \(50.*\), not unset: resume"):
        train(digits, path, 2)


@pytest.mark.parametrize("part", ["Python", "torch"])
def test_another_python_or_torch_is_said_and_goes_on(digits, tmp_path, part):
    path = tmp_path / "state.pt"
    alone = train(digits, tmp_path / "alone.pt", 2)
    train(digits, path, 1)
    content = torch.load(path, weights_only=True)
    here = content["versions"][part]
    content["versions"][part] = "1.0"
    save_tensors(path, content)
    end = "the weights may differ in their last digits from those of an unchanged run"
    said = rf"with .*{part} 1\.0.* goes on with .*{part} {here}.*: {end}"
    with pytest.warns(UserWarning, match=said):
        again = train(digits, path, 2)
    assert all(map(torch.equal, again, alone))


def test_a_state_of_an_earlier_release_is_refused_by_name(digits, tmp_path):
    """Its settings name classes by places that these have left since. It holds no versions."""
    path = tmp_path / "state.pt"
    train(digits, path, 1)
    content = torch.load(path, weights_only=True)
    for name in ("versions", "shuffle_generator", "position"):
        del content[name]
    content["settings"]["guide_kind"] = "91bc3f2a91bc3f2a"
    save_tensors(path, content)
    with pytest.raises(InputError, match=r"was written by pyro_vae 0\.1, and 0\.2 cannot resume"):
        train(digits, path, 2)
