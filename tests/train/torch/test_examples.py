"""The example specs of PyTorch networks, with fewer examples and epochs."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from datamodels.run import runs, specs
from datamodels.train.contract import load_trainer
from tests.train.torch.conftest import outputs


def load(name, *, data=None, **options):
    document = specs.load(name).document()
    document["dataset"]["options"] = document["dataset"].get("options", {}) | (data or {})
    document["trainer"]["options"] |= options
    spec = specs.parse(document)
    dataset = runs.load_dataset(spec)
    return dataset, load_trainer(spec, dataset, dataset.targets(spec.targets))


def test_cnn():
    dataset, trainer = load("cnn", data={"train": 200, "test": 50}, epochs=12, batch_size=10, models_at_once=2)
    subsets = [np.arange(100), np.arange(100, 200)]
    found = outputs(trainer, subsets, [0, 1])
    assert (found > 0).mean() > 0.7
    again = np.stack([outputs(trainer, [subset], [seed])[0] for seed, subset in enumerate(subsets)])
    assert np.abs(found - again).max() < 1e-3 * found.std()
    assert list(dataset.image_shape) == [8, 8]


def test_transformer():
    pytest.importorskip("transformers", reason="needs transformers; the extra of that name brings it")
    dataset, trainer = load("transformer", data={"train": 80, "test": 20}, epochs=6)
    subsets = [np.arange(60), np.arange(20, 80)]
    found = outputs(trainer, subsets, [0, 1])
    (model,) = trainer.train_many(subsets[:1], [0])
    network = trainer.network
    network.load_state_dict(model, strict=False)
    x = {name: torch.from_numpy(dataset.x_test[name].astype(np.int64)) for name in dataset.x_test.dtype.names}
    logits = network.eval()(**x).logits.detach()
    assert logits.shape == (20, 8)
    others = functional.one_hot(torch.from_numpy(dataset.y_test), 8) * -1e9 + logits
    expected = logits[torch.arange(20), dataset.y_test] - others.amax(dim=1)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)
    x, y = trainer.pool(slice(0, 60))
    assert trainer.losses_of(model, x, y).mean() < np.log(8) - 0.2  # it has learned something
    np.testing.assert_array_equal(outputs(trainer, subsets[1:], [1]), found[1:])


def test_gpt():
    pytest.importorskip("transformers", reason="needs transformers; the extra of that name brings it")
    dataset, trainer = load("gpt", data={"train": 60, "test": 10}, epochs=3, models_at_once=2)
    subsets = [np.arange(40), np.arange(20, 60)]
    found = outputs(trainer, subsets, [0, 1])
    (alone,) = outputs(trainer, subsets[:1], [0])
    assert found.shape == (2, 10) and np.abs(found[0] - alone).max() < 1e-3
    assert (found.mean(axis=1) > -np.log(300)).all()  # it has learned something
    assert (dataset.y_test >= 0).sum(axis=1).tolist() == [4] * 10 and not (dataset.y_test == 0).any()
    for span, y in zip(dataset.spans("test"), dataset.y_test, strict=True):
        part = span.text[span.first : span.last].lower()
        words = [dataset.token_names[token] for token in y[y >= 0]]
        assert part.startswith(words[0]) and part.endswith(words[-1]) and all(word in part for word in words)


def test_lightning():
    pytest.importorskip("lightning", reason="needs lightning; the extra of that name brings it")
    from datamodels.train.torch.examples import lightning

    dataset, trainer = load("lightning", epochs=3)
    subset = np.arange(0, 300, 2)
    found = outputs(trainer, [subset], [3])
    torch.manual_seed(3)
    network = lightning()
    order = torch.from_numpy(subset)[torch.rand(3, 150).argsort(dim=1)]
    (optimiser,), (schedule,) = network.configure_optimizers()
    x, y = torch.from_numpy(dataset.x).float(), torch.from_numpy(dataset.y).float()
    for epoch in order:
        for chosen in epoch.split(25):
            optimiser.zero_grad()
            network.training_step((x[chosen], y[chosen]), 0).backward()
            optimiser.step()
        schedule.step()
    expected = (network(torch.from_numpy(dataset.x_test).float()).detach().numpy() - dataset.y_test) ** 2
    np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-4)
