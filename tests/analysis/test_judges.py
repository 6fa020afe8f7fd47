import numpy as np
import torch

from pyro_vae.analysis.judges import (
    Classifier,
    class_features,
    class_probabilities,
    train_classifier,
)


def test_it_reads_digits_it_has_not_seen(digits):
    classifier = train_classifier(digits, epochs=5, progress=False)
    p = class_probabilities(classifier, digits.test_images)
    assert p.shape == (297, 10)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    accuracy = (p.argmax(1) == digits.test_labels.numpy()).mean()
    assert accuracy > 0.93  # chance is 10%, and 97% is usual here
    features = class_features(classifier, digits.test_images)
    assert features.shape == (297, 64)
    w, b = (v.detach().double().numpy() for v in classifier.f[-1].parameters())
    logits = features @ w.T + b
    np.testing.assert_array_equal(logits.argmax(1), p.argmax(1))


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_alone(digits):
    few = digits._replace(
        train_images=digits.train_images[:300], train_labels=digits.train_labels[:300]
    )
    before = torch.get_rng_state()
    first, again, other = (
        train_classifier(few, epochs=1, seed=seed, progress=False) for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.f[0].weight, other.f[0].weight)


def test_it_reads_one_image_as_it_reads_many(digits):
    """Batch statistics are those of training: the other images of a batch play no part."""
    torch.manual_seed(0)
    classifier = Classifier().eval()
    together = class_probabilities(classifier, digits.test_images[:5])
    alone = class_probabilities(classifier, digits.test_images[3:4])
    np.testing.assert_allclose(together[3:4], alone, atol=1e-6)
