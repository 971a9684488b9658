"""Run `datamodels plan`: estimate the time and cost of a run before they are spent."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from datamodels import words
from datamodels.cli.common.output import print_json, warn
from datamodels.cli.common.spec import load_spec
from datamodels.cli.common.spending import duration, money
from datamodels.fit import memory
from datamodels.fit.memory import Size
from datamodels.fit.solve import place_of
from datamodels.plan import cost, gradients, trial
from datamodels.plan import fit as fits
from datamodels.plan.cost import Estimate, Speed
from datamodels.run import runs
from datamodels.run.runs import Run
from datamodels.settings import FitterSettings
from datamodels.train.contract import resolve

GROUP, SHARE = 10, 0.5
"""Suggested ways to have fewer columns: groups of 10 examples, or half of the pool."""
HEAVY_FIT = 1000
"""CPU hours of a fit from which the plan warns of it."""
MANY = 50_000
"""Columns that a fit on a CPU takes in hours; the plan of a larger one says what so many take."""
LONG_START = 0.1
"""The plan mentions the starts of trainers if they take more than this fraction of the time."""


def plan(options: argparse.Namespace) -> None:
    """Print the estimate."""
    given = load_spec(options.spec)
    dataset = runs.load_dataset(given)
    run = resolve(given, dataset)
    for text in dataset.doubts(given.targets):
        warn(text)
    trainers = 1 if options.pods else min(options.trainers, given.chunks)
    if options.model_seconds:
        speed = Speed(options.model_seconds, trainers=trainers)
    else:
        speed = trial.measure(run, dataset, trainers=trainers, seconds=options.seconds)
    estimate = cost.on_pods(given, speed, options.pods) if options.pods else cost.on_this_machine(given, speed)
    fitting = None if options.model_seconds else _fit(run, options.pods)
    measured = None if options.model_seconds or options.pods else gradients.plan(run, dataset, speed)
    if options.json:
        taken = {} if measured is None else {"gradients": _gradients(measured)}
        print_json(document(run, speed, estimate, options) | {"fit": fitting} | taken)
        return
    print("\n".join(lines(run, speed, estimate, options)))
    if fitting:
        held = f"{fitting['memory_bytes'] / 2**30:.2g} GiB"
        disk = f"{fitting['disk_bytes'] / 2**30:.2g} GiB of disk"
        print(f"fit        {duration(fitting['seconds'])}, {held}, {disk}, on the {fitting['device']} of this machine")
        if fitting["untried"]:
            print(f"           tries no LASSO with one lambda for all targets: {fitting['untried']}")
        if "pods" in fitting:
            print(f"           {_shared_fit(fitting['pods'], options)}")
        hours = fitting["cpu_seconds"] / 3600
        if fitting["device"] == "cpu" and hours > HEAVY_FIT:
            warn(_fewer_columns(run, hours, fitting["disk_bytes"]))
    if measured:
        size = f"{measured.models} models, {duration(measured.seconds)}, {measured.memory / 2**30:.2g} GiB"
        print(f"gradients  {size}, once for the run; fit.gradients: 0 does without")


def document(run: Run, speed: Speed, estimate: Estimate, options: argparse.Namespace) -> dict[str, Any]:
    """Return what `lines` says, as JSON values."""
    given, columns = run.spec, run.design.columns
    fewer = {
        "groups": {} if run.design.grouped else {"group_size": GROUP} | _fewer(cost.grouped(given, columns, GROUP)),
        "part_of_pool": {"share": SHARE} | _fewer(cost.selected(given, columns, SHARE)),
    }
    return {
        "run": run.name,
        "m": given.m,
        "models": given.models,
        "columns": columns,
        "output": run.output.document(),
        "output_declared": run.declared is not None,
        "seconds_per_model": speed.each,
        "measured": not options.model_seconds,
        "trainers": speed.trainers,
        "start_seconds": speed.start,
        "pods": options.pods,
        "train": {"seconds": estimate.wall, "device_hours": estimate.hours, "starts": estimate.starts}
        | ({} if options.price is None else {"cost": estimate.cost(options.price, options.spot_discount)}),
        "fewer_columns": {name: found for name, found in fewer.items() if found},
    }


def _fewer(found: cost.Fewer) -> dict[str, Any]:
    return {"columns": found.columns, "m": found.m, "saving": found.saving}


def lines(run: Run, speed: Speed, estimate: Estimate, options: argparse.Namespace) -> Iterator[str]:
    """Describe the run, its training, and what fewer columns would save."""
    given, columns = run.spec, run.design.columns
    yield f"run        {run.name}: m = {given.m:,} and {given.models - given.m:,} models to evaluate, d = {columns:,}"
    if run.declared is None:
        yield f"output     {run.meaning}"
    measured = f"measured with {speed.trainers} {'trainer' if speed.trainers == 1 else 'trainers in parallel'}"
    how = "as given" if options.model_seconds else f"{measured}; to start one takes {duration(speed.start)}"
    yield f"speed      {1 / speed.each:.4g} models/s, {duration(speed.each)} per model ({how})"
    where = f"{options.pods} pods in parallel" if options.pods else "this machine"
    yield f"train      {duration(estimate.wall)} from start to end on {where}, {money(estimate, options)}"
    starting = estimate.starts * speed.start / estimate.busy
    if options.pods and starting > LONG_START:
        yield (
            f"chunks     {given.chunks:,}; to start a trainer for each takes {starting:.0%} of the time, so make chunk "
            f"larger than {given.chunk}"
        )
    if not run.design.grouped:
        yield _saving(f"groups of {GROUP} examples", cost.grouped(given, columns, GROUP), estimate)
    yield _saving(f"{SHARE:.0%} of the pool, chosen by a proxy model", cost.selected(given, columns, SHARE), estimate)


def _fit(run: Run, pods: int) -> dict[str, Any]:
    """Estimate the fit on this machine, and on pods if there are any, with the settings of the fitter.

    Measures for a second or two.
    """
    how, size = FitterSettings.load(), Size.of_run(run)
    device = place_of(run.spec.fit, how.device)
    rates = fits.measure_rates(size, run.spec.fit, device=device)
    given: dict[str, Any] = {"device": device, "threads": how.threads, "block": how.block}
    found = fits.of_rates(size, run.spec.fit, rates, **given)
    taken = {"memory_bytes": found.memory.peak, "disk_bytes": found.memory.disk, "cpu_seconds": found.cpu_seconds}
    shared = {"pods": dataclasses.asdict(fits.on_pods(size, run.spec.fit, rates, pods, **given))} if pods else {}
    untried = memory.untried(size, run.spec.fit, how.device)
    return {"seconds": found.seconds, "device": device, "untried": untried} | taken | shared


def _shared_fit(found: dict[str, Any], options: argparse.Namespace) -> str:
    """Describe the fit on pods."""
    taken = Estimate(0, found["hours"] * cost.HOUR, found["seconds"], found["pods"])
    many, read, disk = words.count(found["pods"], "pod"), found["read_bytes"] / 2**30, found["disk_bytes"] / 2**30
    return (
        f"or {duration(found['seconds'])} on {many} like it, {money(taken, options)}; each reads {read:,.2g} GiB and "
        f"needs {disk:,.2g} GiB of disk"
    )


def _fewer_columns(run: Run, hours: float, disk: int) -> str:
    """Say what a fit takes that is too large, what fits with fewer columns take, and what they lose."""
    given, columns = run.spec, run.design.columns
    size, share = -(-columns // MANY), min(SHARE, MANY / columns)
    groups, part = cost.grouped(given, columns, max(GROUP, size)), cost.selected(given, columns, share)

    @functools.cache
    def taking(models: int, kept: int) -> str:
        fewer = dataclasses.replace(Size.of_run(run), rows=models, columns=kept)
        return (
            f"{kept:,} columns and {models:,} models, {fits.plan(fewer, given.fit).cpu_seconds / 3600:,.0f} CPU hours"
        )

    return (
        f"the fit takes {hours:,.0f} CPU hours and {disk / 2**40:,.2g} TiB of disk. Cheaper are groups of "
        f"{max(GROUP, size)} examples (design: {{kind: grouped}}): {taking(groups.m, groups.columns)}, but one weight "
        f"for a group; or {share:.0%} of the pool, chosen by a proxy model: {taking(part.m, part.columns)}, but no "
        "weights of the rest"
    )


def _gradients(found: gradients.Plan) -> dict[str, Any]:
    return {"models": found.models, "seconds": found.seconds, "memory_bytes": found.memory}


def _saving(what: str, fewer: cost.Fewer, estimate: Estimate) -> str:
    saved = duration(fewer.saving * estimate.busy)
    return f"cheaper    {what}: d = {fewer.columns:,} and m = {fewer.m:,} save {fewer.saving:.0%}, {saved}"
