"""The verbs `clusters`, `components` and `conflicts`: long analyses of the query service, with a bar meanwhile."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from datamodels.analyze.composition import composition
from datamodels.cli.ask import Connect, int32
from datamodels.cli.evaluate import bar, basis, finite, span
from datamodels.rpc.clients.analyses import Answer, Tell
from datamodels.rpc.clients.query import QueryClient

SHOWN = 5
"""Examples on a line."""
PAIRS = 20
"""Lines of conflicts."""

Add = Callable[[argparse.ArgumentParser], None]


def add_verbs(verbs, add_home: Add, connect: Connect) -> None:
    """Adds the verbs to the command's. `connect` says where the query service is."""

    def verb(name: str, what: str, ask: Callable[..., Answer[Any]], document, lines) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        added.add_argument("run", metavar="RUN", help="the run's name")
        added.add_argument("--address", metavar="HOST:PORT", help="of a query service; by default one is started")
        added.add_argument("--json", action="store_true", help="one JSON object")
        add_home(added)
        added.set_defaults(command=lambda options: _ask(options, connect, name, ask, document, lines))
        return added

    found = verb("clusters", "group the targets whose weights are alike", _clusters, _clusters_of, _cluster_lines)
    found.add_argument("-k", type=int32, default=0, help="how many (default: chosen by the eigengap)")
    found.add_argument("--columns", action="store_true", help="group the training examples, not the targets")
    found = verb("components", "show how weights differ most, by principal components", _components, _shares, _strips)
    found.add_argument("-k", type=int32, default=5, help="how many (default: 5)")
    found.add_argument("--extremes", metavar="E", type=int32, default=10, help="shown at each end (default: 10)")
    found.add_argument("--columns", action="store_true", help="of the training examples, not the targets")
    found = verb("conflicts", "show groups of examples that harm groups of targets", _conflicts, _pairs, _pair_lines)
    found.add_argument("--groups", default="classes", help="classes (default) or clusters")
    found.add_argument("-k", type=int32, default=0, help="how many clusters (default: chosen by the eigengap)")


def _ask(options: argparse.Namespace, connect: Connect, name: str, ask, document, lines) -> None:
    with connect(options) as settings, QueryClient(settings.query, settings) as client, bar(name) as tell:
        answer = ask(client, options, tell)
    found = basis(answer) | document(answer.found)
    if options.json:
        print(json.dumps(finite(found)))
        return
    partial = ", which are not all" if "partial" in found else ""
    print(f"run {found['run']}, fit {found['fit']} of {found['models']:,} models{partial}")
    print("\n".join(lines(found)))


def _clusters(client: QueryClient, options: argparse.Namespace, tell: Tell) -> Answer[Any]:
    return client.clusters(options.run, columns=options.columns, k=options.k, tell=tell)


def _clusters_of(found: Any) -> dict[str, Any]:
    kept = [[i for i in row if i >= 0] for row in found.central.tolist()]
    document: dict[str, Any] = {
        "clusters": [{"size": s, "central": c} for s, c in zip(found.sizes.tolist(), kept, strict=True)],
        "without": int(np.count_nonzero(found.cluster < 0)),
        "bandwidth": found.bandwidth,
        "eigenvalues": found.eigenvalues.tolist(),
    }
    if len(found.labels):
        made = composition(found.cluster, found.labels)
        for row, counts in zip(document["clusters"], made.counts, strict=True):
            present = np.flatnonzero(counts)[np.argsort(-counts[counts > 0], kind="stable")]
            row["classes"] = {str(made.classes[c]): int(counts[c]) for c in present}
        names = ("purity", "purity_interval", "rand", "rand_interval")
        document |= {name: getattr(made, name) for name in names}
    return document | {"cluster": found.cluster.tolist()}


def _cluster_lines(found: dict[str, Any]) -> Iterator[str]:
    lone = f", {found['without']} like no other" if found["without"] else ""
    yield f"{len(found['clusters'])} clusters{lone}"
    if "purity" in found:
        purity, rand = (f"{found[name]:.3f} ({span(found[f'{name}_interval'])})" for name in ("purity", "rand"))
        yield f"against the classes: purity {purity}, adjusted Rand index {rand}"
    for i, row in enumerate(found["clusters"]):
        classes = "  ".join(f"{name} x {count}" for name, count in list(row.get("classes", {}).items())[:SHOWN])
        central = ",".join(map(str, row["central"]))
        yield f"{i:>4}  size {row['size']:>6}  central {central:<32}" + (f"  classes {classes}" if classes else "")


def _components(client: QueryClient, options: argparse.Namespace, tell: Tell) -> Answer[Any]:
    return client.components(options.run, columns=options.columns, k=options.k, extremes=options.extremes, tell=tell)


def _shares(found: Any) -> dict[str, Any]:
    def end(name: str, c: int) -> dict[str, Any]:
        index, feature = getattr(found, name)[c], getattr(found, f"{name}_feature")[c]
        document = {"index": index, "score": getattr(found, f"{name}_score")[c], "feature": feature}
        if len(found.labels):
            document["label"] = found.labels[index]
        if len(found.feature_labels):
            document["feature_label"] = found.feature_labels[feature]
        return {key: value.tolist() for key, value in document.items()}

    return {
        "components": [
            {"share": float(share), "interval": found.interval[c].tolist()}
            | {name: end(name, c) for name in ("high", "low")}
            for c, share in enumerate(found.share)
        ]
    }


def _strips(found: dict[str, Any]) -> Iterator[str]:
    for c, row in enumerate(found["components"]):
        yield f"component {c}: {row['share']:.1%} of the variance ({span(row['interval'])})"
        for name in ("high", "low"):
            end = row[name]
            by = "  by " + _named(end["feature"], end.get("feature_label"))
            yield f"  {name:<4} {_named(end['index'], end.get('label'))}{by}"


def _named(index: list[int], labels: list[int] | None) -> str:
    shown = [f"#{i} ({label})" for i, label in zip(index, labels, strict=True)] if labels else [f"#{i}" for i in index]
    return " ".join(shown[:SHOWN])


def _conflicts(client: QueryClient, options: argparse.Namespace, tell: Tell) -> Answer[Any]:
    return client.conflicts(options.run, groups=options.groups, k=options.k, tell=tell)


def _pairs(found: Any) -> dict[str, Any]:
    names = ("source", "target", "effect", "interval", "harmed", "sure")
    columns = [getattr(found, name).tolist() for name in names]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return {"pairs": found.pairs, "conflicts": [row | {"sure": bool(row["sure"])} for row in rows]}


def _pair_lines(found: dict[str, Any]) -> Iterator[str]:
    sure = [row for row in found["conflicts"] if row["sure"]]
    yield f"{len(sure)} of {found['pairs']} pairs of groups are in conflict"
    for row in sure[:PAIRS]:
        yield (
            f"examples of {row['source']:>3} harm targets of {row['target']:>3}: effect {row['effect']:.3f} "
            f"({span(row['interval'])}), below 0 on {row['harmed']:.0%}"
        )
