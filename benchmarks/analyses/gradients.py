"""Compare the baselines that need gradients with the implementations of other libraries, on the same model.

    pip install dattri kronfluence
    python benchmarks/analyses/gradients.py [--examples 300] [--targets 40]

The model is the CNN of the example spec, trained on digits. Scores of all pairs of a target and an example are compared
by their correlation, and by the largest difference in units of the largest score.

Random numbers differ. TRAK's projections are averaged over DRAWS on both sides. kronfluence draws the labels that
EK-FAC takes the expectation over; it sees each example COPIES times. So another column has the correlation of two
halves of the draws: of ours for TRAK, and of kronfluence's. Damping is the same on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from datamodels.baselines.context import Trained
from datamodels.baselines.gradients import curvature, influence, tracin, trak
from datamodels.train.gradients.autograd import class_margin
from datamodels.train.torch import TorchTrainer
from datamodels.train.torch.examples import cnn
from datamodels.train.workloads import digits

DRAWS, COPIES = 16, 16
LAST = ["7.weight", "7.bias"]


class Case:
    """A trained network with its data."""

    def __init__(self, examples: int, targets: int):
        data = digits.load(train=examples, test=targets)
        self.trainer = TorchTrainer(
            data,
            data.targets("test"),
            build=cnn,
            loss="cross_entropy",
            optimiser="sgd",
            learning_rate=0.1,
            epochs=8,
            batch_size=35,
            device="cpu",
        )
        self.checkpoints = list(self.trainer.checkpoints(np.arange(examples), 0))
        self.model = self.checkpoints[-1][1]
        self.network = cnn()
        self.network(torch.zeros(1, 64))  # the lazy layer takes its size
        self.pool, self.targets = self.trainer.pool(slice(None)), self.trainer.targets(slice(None))

    def trained(self, models: int = 1) -> Trained:
        return Trained(self.trainer, [(rate, [model] * models) for rate, model in self.checkpoints], 0.0)

    def loader(self, batch: tuple[torch.Tensor, torch.Tensor], rows: int = 0) -> DataLoader:
        return DataLoader(TensorDataset(*batch), batch_size=rows or len(batch[1]), shuffle=False)

    def task(self, loss, checkpoints):
        from dattri.task import AttributionTask

        def of_margin(parameters, pair):
            return class_margin(self._logits(parameters, pair[0]), pair[1].reshape(1)).sum()

        return AttributionTask(loss_func=loss, model=self.network, checkpoints=checkpoints, target_func=of_margin)

    def loss(self, parameters, pair):
        return functional.cross_entropy(self._logits(parameters, pair[0]), pair[1].reshape(-1))

    def odds(self, parameters, pair):
        p = torch.exp(-self.loss(parameters, pair))
        return torch.log(p / (1 - p))

    def probability(self, parameters, pair):
        return torch.exp(-self.loss(parameters, pair))

    def _logits(self, parameters, x):
        return functional_call(self.network, parameters, (x.reshape(-1, 64),))


def of_tracin(case: Case) -> tuple[np.ndarray, np.ndarray, float]:
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask

    rates, models = zip(*case.checkpoints, strict=True)
    task = AttributionTask(loss_func=case.loss, model=case.network, checkpoints=list(models))
    attributor = TracInAttributor(task, torch.tensor(rates), normalized_grad=False)
    attributor.projector_kwargs = None  # no projection
    theirs = attributor.attribute(case.loader(case.pool), case.loader(case.targets)).T
    return tracin.attribution(case.trained()), theirs.numpy(), 1.0


def of_last_layer(case: Case) -> tuple[np.ndarray, np.ndarray, float]:
    from dattri.algorithm.influence_function import IFAttributorExplicit

    damping = curvature.damping(case.trainer.gradients(case.model).weight_decay)
    attributor = IFAttributorExplicit(case.task(case.loss, [case.model]), layer_name=LAST, regularization=damping)
    attributor.cache(case.loader(case.pool))
    theirs = attributor.attribute(case.loader(case.pool), case.loader(case.targets)).T
    return influence.last_layer(case.trained()), -theirs.detach().numpy(), 1.0


def of_trak(case: Case) -> tuple[np.ndarray, np.ndarray, float]:
    from dattri.algorithm.trak import TRAKAttributor

    dimensions = case.trainer.gradients(case.model).examples // trak.EXAMPLES_PER_DIMENSION
    attributor = TRAKAttributor(
        case.task(case.odds, [case.model] * DRAWS),
        correct_probability_func=case.probability,
        projector_kwargs={"proj_dim": dimensions, "device": "cpu"},
    )
    attributor.cache(case.loader(case.pool))
    theirs = attributor.attribute(case.loader(case.targets)).T
    ours, half = (trak.attribution(case.trained(draws)) for draws in (DRAWS, DRAWS // 2))
    return ours, theirs.detach().numpy(), correlation(half, 2 * ours - half)


def of_ekfac(case: Case) -> tuple[np.ndarray, np.ndarray, float]:
    halves = [_kronfluence(case, seed) for seed in range(2)]
    return influence.ekfac(case.trained()), -sum(halves) / 2, correlation(*halves)


def _kronfluence(case: Case, seed: int) -> np.ndarray:
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Margins(Task):
        def compute_train_loss(self, batch, model, sample=False):
            logits, y = model(batch[0]), batch[1]
            if sample:
                y = torch.multinomial(logits.detach().softmax(dim=1), 1)[:, 0]
            return functional.cross_entropy(logits, y, reduction="sum")

        def compute_measurement(self, batch, model):
            return class_margin(model(batch[0]), batch[1]).sum()

    torch.manual_seed(seed)
    network: nn.Module = cnn()
    network(torch.zeros(1, 64))
    network.load_state_dict(case.model)
    damping = curvature.damping(case.trainer.gradients(case.model).weight_decay)
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "cnn", prepare_model(network, Margins()), Margins(), cpu=True, output_dir=folder, disable_tqdm=True
        )
        pool = TensorDataset(*case.pool)
        copies = TensorDataset(*(torch.cat([part] * (COPIES // 2)) for part in case.pool))
        analyzer.fit_all_factors(
            "factors", copies, per_device_batch_size=100, factor_args=FactorArguments(strategy="ekfac")
        )
        analyzer.compute_pairwise_scores(
            "scores",
            "factors",
            query_dataset=TensorDataset(*case.targets),
            train_dataset=pool,
            per_device_query_batch_size=50,
            per_device_train_batch_size=100,
            score_args=ScoreArguments(damping_factor=damping),
        )
        scores = analyzer.load_pairwise_scores("scores")
    return scores["all_modules"].numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


METHODS: dict[str, tuple[str, Callable[[Case], tuple[np.ndarray, np.ndarray, float]]]] = {
    "tracin": ("dattri", of_tracin),
    "last_layer": ("dattri", of_last_layer),
    "trak": ("dattri", of_trak),
    "ekfac": ("kronfluence", of_ekfac),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--targets", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = Case(options.examples, options.targets)
    print("| method | library | correlation | largest difference | of two halves of the draws | seconds of both |")
    print("|---|---|---|---|---|---|")
    for name, (library, compare) in METHODS.items():
        started = time.perf_counter()
        ours, theirs, halves = compare(case)
        largest = np.abs(ours - theirs).max() / np.abs(ours).max()
        print(
            f"| {name} | {library} | {correlation(ours, theirs):.5f} | {largest:.1e} | {halves:.3f} | "
            f"{time.perf_counter() - started:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
