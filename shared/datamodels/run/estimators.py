"""Declare the estimators and solvers that a spec may name, and what each of them needs.

These are declarations: they refer to the code by name, so that a spec is checked without importing it. A new estimator
is a module in `fit/estimators` and an entry here.
"""

from __future__ import annotations

import dataclasses

TARGETS = ("test", "train", "both")
"""Kinds of targets: test examples, training examples, or both. A spec's `targets` is one of them."""


@dataclasses.dataclass(frozen=True)
class Estimator:
    """An estimator: how weights are computed from the outputs of models.

    text     what the weights are, for people
    solve    the function that fits a block of targets, a `fit.contract.block.Solve`, as `module:name`
    targets  kinds of targets that it takes
    prior    the module that computes the prior: `of_run` from a run and its examples, and `made_up` for n targets and
             d columns, to time fits; None if it has none
    optional whether it can be fitted without its prior
    device   whether it uses a GPU if there is one; the others compute on the CPU
    folds    whether it chooses for all targets together by cross-validation, which takes memory that is known
             beforehand
    shares   whether it predicts, in place of the output, the fraction of models past the output's threshold
    settings  the fields of `fit` that it uses, besides those that all use
    """

    text: str
    solve: str
    targets: tuple[str, ...] = TARGETS
    prior: str | None = None
    optional: bool = False
    device: bool = False
    folds: bool = False
    shares: bool = False
    settings: tuple[str, ...] = ()

    @property
    def solver(self) -> bool:
        """Whether `fit.solver` says how its weights are computed; if so, the memory that it takes is known."""
        return "solver" in self.settings

    @property
    def gradients(self) -> bool:
        """Whether it uses gradients of some of the run's models, if the trainer offers them."""
        return "gradients" in self.settings


_GRID = ("lambdas", "patience", "max_epochs")
_PATH = (*_GRID, "lambda_ratio")

ESTIMATORS = {
    "lasso": Estimator(
        "sparse weights by the LASSO",
        "datamodels.fit.estimators.lasso:solve",
        device=True,
        settings=(*_PATH, "solver", "batch_size"),
    ),
    "weighted": Estimator(
        "the LASSO, with a smaller penalty for examples that look like the target; for `targets: test` only",
        "datamodels.fit.estimators.weighted:solve",
        targets=("test",),
        prior="datamodels.fit.data.prior",
        settings=_PATH,
    ),
    "pooled": Estimator(
        "the LASSO with one lambda for all targets, in units of their noise, or one for each, as cross-validation "
        "prefers",
        "datamodels.fit.estimators.prior:solve_pooled",
        device=True,
        folds=True,
        settings=(*_PATH, "batch_size"),
    ),
    "prior": Estimator(
        "weights expected from inputs and labels, and from gradients if the trainer offers them, corrected by the "
        "outputs; the LASSO if cross-validation prefers it",
        "datamodels.fit.estimators.prior:solve",
        prior="datamodels.fit.pairs.pairs",
        optional=True,
        device=True,
        folds=True,
        settings=(*_PATH, "batch_size", "gradients"),
    ),
    "ridge": Estimator("dense weights by ridge regression", "datamodels.fit.estimators.ridge:solve", settings=_GRID),
    "difference": Estimator(
        "the mean output with an example minus the mean output without it",
        "datamodels.fit.estimators.difference:solve",
    ),
    "influence": Estimator(
        "the share of models that are right with an example minus the share without it",
        "datamodels.fit.estimators.difference:solve_shares",
        shares=True,
    ),
}
"""Estimators by their names in a spec's `fit.estimator`."""
DEFAULT = "prior"
"""The default estimator."""
EARLIER = "lasso"
"""The default estimator before 0.3, and the only one of records that name none."""
OF_ARRAYS = next(name for name, known in ESTIMATORS.items() if known.prior is None)
"""The default estimator of masks and outputs without a data set, whose examples cannot be compared."""
OF_SOLVERS = next(name for name, known in ESTIMATORS.items() if known.solver)
"""The estimator that is meant if a solver is named, and no estimator."""
FLAT = "datamodels.fit.data.prior:flat"
"""The default of `fit.features`: the numbers of each example as they are."""


@dataclasses.dataclass(frozen=True)
class Solver:
    """A solver of the LASSO.

    text   how it works, for people
    entry  its `fit.lasso.base.Solver`, as `module:name`
    """

    text: str
    entry: str


SOLVERS = {
    "saga": Solver(
        "the paper's algorithm, which reads the rows again in each epoch, in batches of random order",
        "datamodels.fit.lasso.saga:SOLVER",
    ),
    "gram": Solver(
        "computes Gram matrices of the masks once; hands over to `stream` if they are too large, or for training "
        "examples on a GPU",
        "datamodels.fit.lasso.gram:SOLVER",
    ),
    "stream": Solver(
        "accelerated proximal gradient, which reads the rows again in each epoch", "datamodels.fit.lasso.fista:SOLVER"
    ),
}
"""Solvers by their names in a spec's `fit.solver`."""
GRAM = "gram"
"""The default solver."""
STREAM = "stream"
"""The solver that it hands over to."""
