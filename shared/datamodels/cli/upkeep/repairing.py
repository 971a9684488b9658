"""Run `datamodels repair`."""

from __future__ import annotations

import argparse

from datamodels import words
from datamodels.cli.runs import stages
from datamodels.cli.upkeep.chosen import chosen, idle, tell
from datamodels.errors import InputError, RunNotFoundError
from datamodels.lifecycle import repair as repairing
from datamodels.run import specs


def repair(options: argparse.Namespace) -> None:
    """Take parts out of use, list what is left anew, and train the models of these parts again if a spec is given."""
    store, found = chosen(options)
    if options.spec is not None and (other := specs.load(options.spec).run) != options.run:
        raise InputError(f"--spec {options.spec}: describes run {other}, not {options.run}")
    for run, known in idle(store, found, options):
        if known.run is None:
            raise RunNotFoundError(f"no such run: {run.run} in {store.url}; `datamodels status` lists the runs")
        faulty = repairing.faulty(store, run.run, options.models, damaged=options.damaged)
        for one in faulty:
            document = {"run": run.run, "first": one.models.start, "last": one.models.stop, "why": one.why}
            tell(options, document, f"models {one.models.start} to {one.models.stop - 1}  {one.why}")
        version = None if options.dry_run else repairing.retire(store, run.run, faulty)
        would = "would be " if options.dry_run else ""
        line = f"{run.run}  {words.count(len(faulty), 'sub-chunk')} {would}taken out of use"
        document = {"run": run.run, "dry_run": options.dry_run, "retired": len(faulty), "manifest": version}
        tell(options, document, line)
        if faulty and not options.dry_run and options.spec is None and not options.json:
            print("train their models again with `datamodels train SPEC` or `datamodels submit SPEC`, then fit the run")
    if options.spec is not None and not options.dry_run:
        options.until, options.settings = "aggregate", []
        stages.stage(options)
