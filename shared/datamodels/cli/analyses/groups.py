"""Run `datamodels clusters`, `components` and `conflicts`: long analyses, which the query service computes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from datamodels import words
from datamodels.analyze.patterns.names import GROUPS
from datamodels.analyze.what_if.composition import composition
from datamodels.cli.common.output import basis_line, output_title, print_json, span
from datamodels.cli.common.service import basis, class_names, progress, query_client
from datamodels.rpc.clients.analyses import Answer, Tell
from datamodels.rpc.clients.query import QueryClient
from datamodels.rpc.codec import from_output

SHOWN = 5
"""Examples, or classes, on a line."""
PAIRS = 20
"""Conflicts that are listed."""


def clusters(options: argparse.Namespace) -> None:
    """Print groups of targets, or of training examples, with similar weights."""
    _answer(options, "clusters", _ask_clusters, _clusters_document, _cluster_lines)


def components(options: argparse.Namespace) -> None:
    """Print principal components of the weights, with the members at both ends of each."""
    _answer(options, "components", _ask_components, _components_document, _component_lines)


def conflicts(options: argparse.Namespace) -> None:
    """Print groups of training examples that harm groups of targets."""
    _answer(options, "conflicts", _ask_conflicts, _conflicts_document, _conflict_lines)


def _answer(
    options: argparse.Namespace,
    name: str,
    ask: Callable[[QueryClient, argparse.Namespace, Tell], Answer[Any]],
    document: Callable[[Any], dict[str, Any]],
    lines: Callable[[dict[str, Any]], Iterator[str]],
) -> None:
    with query_client(options) as client, progress(name) as tell:
        answer, classes = ask(client, options, tell), class_names(client, options.run)
    found = basis(answer) | document(answer.found) | ({"label_names": classes} if classes else {})
    if name != "conflicts":
        found["of"] = "columns" if options.columns else "targets"
    else:
        found["groups"] = options.groups
        found["higher_is_better"] = from_output(answer.provenance.output).higher_is_better
    if options.json:
        print_json(found)
        return
    print(basis_line(found))
    print("\n".join(lines(found)))


def _ask_clusters(client: QueryClient, options: argparse.Namespace, tell: Tell) -> Answer[Any]:
    return client.clusters(options.run, columns=options.columns, k=options.k, tell=tell)


def _clusters_document(found: Any) -> dict[str, Any]:
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
    lone = f"; not in any, because they are similar to no other: {found['without']}" if found["without"] else ""
    yield f"{words.count(len(found['clusters']), 'cluster')}{lone}"
    if "purity" in found:
        purity, rand = (f"{found[name]:.3f} ({span(found[f'{name}_interval'])})" for name in ("purity", "rand"))
        yield f"compared with the classes: purity {purity}, adjusted Rand index {rand}"
    for i, row in enumerate(found["clusters"]):
        counted = list(row.get("classes", {}).items())[:SHOWN]
        classes = "  ".join(f"{_class(found, int(label))} x {count}" for label, count in counted)
        central = ",".join(map(str, row["central"]))
        line = f"{i:>4}  size {row['size']:>6}  central {central:<32}"
        yield f"{line}  classes {classes}" if classes else line.rstrip()


def _ask_components(client: QueryClient, options: argparse.Namespace, tell: Tell) -> Answer[Any]:
    return client.components(options.run, columns=options.columns, k=options.k, extremes=options.extremes, tell=tell)


def _components_document(found: Any) -> dict[str, Any]:
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


def _component_lines(found: dict[str, Any]) -> Iterator[str]:
    for c, row in enumerate(found["components"]):
        low, high = row["interval"]
        yield f"component {c}: {row['share']:.1%} of the variance ({low:.1%} to {high:.1%})"
        for name in ("high", "low"):
            end = row[name]
            grouped, by = ("columns", "targets") if found["of"] == "columns" else ("targets", "columns")
            yield (
                f"  {name:<4} {_named(found, grouped, end['index'], end.get('label'))}  "
                f"by {_named(found, by, end['feature'], end.get('feature_label'))}"
            )


def _named(found: dict[str, Any], what: str, index: list[int], labels: list[int] | None) -> str:
    """Name targets, or columns, which have a # before their number."""
    classes = [_class(found, label) for label in labels or ()] or [""] * len(index)
    named = (words.example(i, label) for i, label in zip(index[:SHOWN], classes[:SHOWN], strict=True))
    return " ".join(named) if what == "columns" else "targets " + " ".join(name.removeprefix("#") for name in named)


def _class(found: dict[str, Any], label: int | None) -> str:
    return words.label(label, found.get("label_names", ()))


def _ask_conflicts(client: QueryClient, options: argparse.Namespace, tell: Tell) -> Answer[Any]:
    return client.conflicts(options.run, groups=options.groups, k=options.k, tell=tell)


def _conflicts_document(found: Any) -> dict[str, Any]:
    names = ("source", "target", "effect", "interval", "harmed", "sure")
    columns = [getattr(found, name).tolist() for name in names]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return {"pairs": found.pairs, "conflicts": [row | {"sure": bool(row["sure"])} for row in rows]}


_EFFECTS = {True: ("harm", "below"), False: ("harm", "above"), None: ("lower", "below")}
"""What conflicts do to targets, and on which side of 0 their effects are, by whether a higher output is better."""


def _conflict_lines(found: dict[str, Any]) -> Iterator[str]:
    # Clusters have numbers, and only classes have names.
    names = found.get("label_names", ()) if found["groups"] == GROUPS[0] else ()
    harm, worse = _EFFECTS[found["higher_is_better"]]
    sure = [row for row in found["conflicts"] if row["sure"]]
    yield f"{len(sure)} of {found['pairs']} pairs of groups are in conflict"
    for row in sure[:PAIRS]:
        yield (
            f"examples of {words.label(row['source'], names)} {harm} targets of "
            f"{words.label(row['target'], names)}: effect on the {output_title(found)} {words.number(row['effect'])} "
            f"({words.interval(row['interval'])}), {worse} 0 for {row['harmed']:.0%} of them"
        )
