"""Declare the commands about runs."""

from __future__ import annotations

import argparse

from datamodels.cli.common.options import (
    EXAMPLE,
    Subparsers,
    above_zero,
    add_cluster,
    add_command,
    add_group,
    add_json,
    add_price,
    add_quiet,
    add_service,
    add_spec,
    add_store,
    add_trainers,
    add_trust,
    number,
    port,
    positive,
    whole,
)

TOLERANCE = 1e-3
STAGES = {
    "sample": "create the run and describe its subsets",
    "train": "run the pipeline up to the training of the models, and commit their outputs",
    "aggregate": "run the pipeline up to the manifest, which lists the committed outputs",
    "fit": "run the pipeline up to the fit of a linear model to each target",
}


def register(subparsers: Subparsers) -> None:
    """Add the commands to those of `datamodels`."""
    _add_trainer(subparsers)
    _add_examples(subparsers)
    _add_plan(subparsers)
    _add_run(subparsers)
    for stage, what in STAGES.items():
        parser = add_command(subparsers, stage, what, "datamodels.cli.runs.stages:stage")
        add_spec(parser, or_run=stage == "fit")
        _add_place(parser)
        if stage == "fit":
            _add_fit_settings(parser)
            add_trust(parser)
        parser.set_defaults(until=stage)
    _add_status(subparsers)
    _add_explore(subparsers)
    _add_transfer(subparsers)
    _add_cluster_commands(subparsers)


def _add_trainer(subparsers: Subparsers) -> None:
    below = add_group(subparsers, "trainer", "try a trainer before you pay for a run")
    what = "check that a trainer keeps its contract, and measure its speed and noise"
    parser = add_command(below, "check", what, "datamodels.cli.runs.check:check")
    parser.add_argument(
        "trainer", metavar="MODULE:CLASS", nargs="?", help="class of the trainer (default: the one that --spec names)"
    )
    parser.add_argument(
        "--spec",
        metavar="SPEC",
        help=f"YAML file with the data set and the trainer's options, or {EXAMPLE} (default: the digits)",
    )
    parser.add_argument(
        "--tolerance",
        metavar="X",
        type=number,
        default=TOLERANCE,
        help="outputs count as equal if they differ by at most this fraction of their spread (default: %(default)g)",
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=above_zero,
        default=20.0,
        help="seconds for measuring the speed, and as many for the noise (default: %(default)g)",
    )
    add_price(parser)
    add_json(parser)


def _add_examples(subparsers: Subparsers) -> None:
    what = "list the example specs that ship with datamodels, or print one, to start your own from"
    parser = add_command(subparsers, "examples", what, "datamodels.cli.runs.examples:examples")
    parser.add_argument("name", metavar="EXAMPLE", nargs="?", help="name of an example (default: list all)")
    add_json(parser, lines=True)


def _add_plan(subparsers: Subparsers) -> None:
    what = "measure how fast models train here, and estimate the time and the cost of a run"
    parser = add_command(subparsers, "plan", what, "datamodels.cli.runs.plan:plan")
    add_spec(parser)
    add_trainers(parser)
    parser.add_argument(
        "--pods",
        metavar="N",
        type=positive,
        help="estimate for N pods in parallel on Kubernetes, each with a device like this one (default: this machine)",
    )
    parser.add_argument(
        "--model-seconds",
        metavar="S",
        type=above_zero,
        help="seconds that one model takes on a device (default: they are measured)",
    )
    parser.add_argument(
        "--seconds", metavar="S", type=above_zero, default=10.0, help="seconds to measure (default: %(default)g)"
    )
    add_price(parser)
    add_json(parser)


def _add_run(subparsers: Subparsers) -> None:
    what = "run the whole pipeline on this machine and write a report"
    parser = add_command(subparsers, "run", what, "datamodels.cli.runs.stages:run")
    add_spec(parser)
    parser.add_argument(
        "--report", metavar="FILE", help="HTML file to write the report to (default: HOME/reports/RUN.html)"
    )
    parser.add_argument(
        "--curve", action="store_true", help="measure the learning curve too, by fits of fewer models, for the report"
    )
    _add_place(parser)


def _add_place(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    add_trainers(parser)
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(settings=[])


def _add_fit_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fit",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="field of the section fit of a spec, such as estimator=ridge; may be repeated (default: the spec's)",
    )


def _add_status(subparsers: Subparsers) -> None:
    what = "describe the runs in the object store, or one of them; with -n, ask a Kubernetes cluster instead"
    parser = add_command(subparsers, "status", what, "datamodels.cli.runs.status:status")
    parser.add_argument("run", metavar="RUN", nargs="?", help="name of the run (default: all runs)")
    parser.add_argument(
        "--verify", action="store_true", help="read all stored objects and check them against their sha256"
    )
    add_store(parser)
    add_cluster(parser)
    add_json(parser, lines=True)


def _add_explore(subparsers: Subparsers) -> None:
    what = "look through runs in a browser; serves pages and a JSON API on this machine until Ctrl-C"
    parser = add_command(subparsers, "explore", what, "datamodels.cli.runs.explore:explore")
    parser.add_argument("run", metavar="RUN", nargs="?", help="name of a run to open (default: the list of runs)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address, and open no browser")
    parser.add_argument(
        "--port", metavar="N", type=port, default=0, help="port to listen on (default: one that is free)"
    )
    parser.add_argument(
        "--price", metavar="P", type=above_zero, help="price of one trainer for one hour; with it, pages show costs"
    )
    add_trust(parser)
    add_store(parser)


def _add_transfer(subparsers: Subparsers) -> None:
    what = "make a run of masks and outputs from elsewhere, and fit it"
    parser = add_command(subparsers, "import", what, "datamodels.cli.runs.transfer:import_arrays")
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="masks.npy [models, columns] and then outputs.npy [models, targets]; or one .npz or .parquet file, or a "
        "folder of .parquet files, with masks and outputs; or what `export` wrote; several add up",
    )
    parser.add_argument(
        "--unseen",
        metavar=("MASKS", "OUTPUTS"),
        nargs=2,
        help=".npy files [subsets, columns] and [subsets, models, targets] of models to measure LDS "
        "on (default: none, and no LDS)",
    )
    parser.add_argument("--name", metavar="NAME", default="imported", help="label of the run (default: %(default)s)")
    parser.add_argument(
        "--targets",
        choices=("test", "train", "both"),
        help="what targets are: test examples, the training examples, or both, test examples first "
        "(default: as the export that the files come from says, else test)",
    )
    parser.add_argument(
        "--output",
        metavar="YAML",
        default="{}",
        help="what outputs mean, as the section output of a spec, such as '{name: margin, higher_is_better: true, "
        "threshold: 0}' (default: as the export says; else margins with --labels, and without them numbers of which "
        "neither high nor low is better, so that no target is wrong)",
    )
    parser.add_argument(
        "--label-names",
        metavar="FILE",
        help="text file with the name of each class, in the order of their numbers (default: as the export says)",
    )
    for whose, of in (("", "training example"), ("target-", "test example")):
        parser.add_argument(
            f"--{whose}labels", metavar="FILE", help=f".npy file with the class of each {of} (default: none)"
        )
        parser.add_argument(
            f"--{whose}names", metavar="FILE", help=f"text file with a line for each {of} (default: none)"
        )
    for name, metavar, noun in (
        ("data", "MODULE:FUNCTION", "data set, for reports that show examples"),
        ("trainer", "MODULE:CLASS", "trainer, for questions that train models"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, help=f"the {noun}, as in a spec (default: none)")
        parser.add_argument(
            f"--{name}-options", metavar="YAML", default="{}", help="its options, such as '{size: 3}' (default: none)"
        )
    parser.add_argument(
        "--constant", action="store_true", help="allow columns that every mask has, or none; they get no weights"
    )
    _add_fit_settings(parser)
    parser.add_argument("--no-fit", dest="fits", action="store_false", help="only store the run")
    add_store(parser)
    add_json(parser)
    what = "write the masks, outputs, weights, targets and evaluation of a run for other programs"
    parser = add_command(subparsers, "export", what, "datamodels.cli.runs.transfer:export_run")
    parser.add_argument("run", metavar="RUN", help="name of the run")
    parser.add_argument(
        "--format",
        choices=("npz", "npy", "parquet", "csv"),
        default="npz",
        help="one .npz file, or a folder: of .npy files, which can be memory-mapped; of Parquet tables, which Hugging "
        "Face `datasets` loads, too; of CSV tables (default: %(default)s)",
    )
    parser.add_argument("--output", metavar="PATH", help="file or folder to write, which must be new (default: RUN)")
    parser.add_argument("--fit", metavar="N", type=int, help="number of the fit to export (default: the newest)")
    add_service(parser)
    add_json(parser)


def _add_cluster_commands(subparsers: Subparsers) -> None:
    what = "submit runs to a Kubernetes cluster; submitted again, unfinished runs resume"
    submit = add_command(subparsers, "submit", what, "datamodels.cli.runs.cluster:submit")
    submit.add_argument("specs", metavar="SPEC", nargs="+", help=f"YAML file that describes a run, or {EXAMPLE}")
    submit.add_argument("--watch", action="store_true", help="print how the runs go, until they end")
    what = "print the log of the driver of a run, or of one of its trainers"
    logs = add_command(subparsers, "logs", what, "datamodels.cli.runs.cluster:logs")
    logs.add_argument(
        "--index",
        metavar="N",
        type=whole,
        help="print the log of this index of the trainer Job (default: the driver's)",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="print new lines until the pod ends")
    what = "stop a run of a cluster; what it committed is kept"
    cancel = add_command(subparsers, "cancel", what, "datamodels.cli.runs.cluster:cancel")
    what = "change how many trainers of a run of a cluster work at once"
    scale = add_command(subparsers, "scale", what, "datamodels.cli.runs.cluster:scale")
    what = "stop the trainers of a run of a cluster until `resume`; they commit finished models first"
    suspend = add_command(subparsers, "suspend", what, "datamodels.cli.runs.cluster:suspend")
    what = "restart trainers that `suspend` stopped"
    resume = add_command(subparsers, "resume", what, "datamodels.cli.runs.cluster:resume")
    for parser in (logs, cancel, scale, suspend, resume):
        parser.add_argument("run", metavar="RUN", help="name of the run; `datamodels list` lists them")
    scale.add_argument("trainers", metavar="N", type=positive, help="most trainers at once")
    scale.add_argument(
        "--pool",
        metavar="NAME",
        default="main",
        help="pool of the trainers, see jobs.pools of the chart (default: %(default)s)",
    )
    what = "list the runs of a Kubernetes cluster with their states; `status` lists those in the store"
    listed = add_command(subparsers, "list", what, "datamodels.cli.runs.cluster:list_runs")
    for parser in (submit, logs, cancel, scale, suspend, resume, listed):
        add_cluster(parser)
    for parser in (submit, cancel, scale, suspend, resume, listed):
        add_json(parser, lines=True)
    what = "run the pipeline as the driver pod of a cluster, which `submit` starts"
    add_command(subparsers, "drive", what, "datamodels.cli.runs.drive:drive")
