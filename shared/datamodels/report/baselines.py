"""Render the comparison of the datamodels with other methods as HTML."""

from __future__ import annotations

import html as markup
from typing import Any

from datamodels.baselines.compare import LDS, UNSURE, Document
from datamodels.report import charts
from datamodels.report.charts import HEIGHT, LEFT, WIDTH

Rows = list[Document]
COLOURS = 12


def body(rows: Rows) -> str:
    """Render how well each method predicts unseen subsets, and how many targets flip without its best examples."""
    flips = [name for name in rows[0]["figures"] if name not in (LDS, UNSURE)]
    heads = ["method", "LDS", *(f"{_k(name)} removed" for name in flips), "seconds"]
    table = "".join(_row(row, i, flips) for i, row in enumerate(rows))
    flipped = chart = ""
    if flips:
        flipped = (
            " The columns after it give the share of targets that flip, i.e. that models get wrong, if the examples "
            "with the highest scores are removed from training."
        )
        chart = f'<div class="panel">{_chart(rows, flips)}</div>'
    few = f" <strong>{markup.escape(str(rows[0]['few']))}.</strong>" if rows[0].get("few") else ""
    doubts = "".join(
        f" <strong>{markup.escape(str(row['method']))}: {markup.escape(str(row['doubt']))}.</strong>"
        for row in rows
        if row.get("doubt")
    )
    return (
        "<p>Each method scores the training examples of each target. The LDS says how well the scores predict unseen "
        f"subsets.{flipped} Small figures are 95% intervals. A star marks a figure above that of the datamodels, if "
        f"the interval of the difference is above 0.{few}{doubts}</p>{chart}"
        '<div class="panel chart" tabindex="0"><table class="wide"><thead><tr>'
        + "".join(f'<th scope="col">{head}</th>' for head in heads)
        + f"</tr></thead><tbody>{table}</tbody></table></div>"
    )


def _k(name: str) -> int:
    return int(name.rpartition("_")[2])


def _row(row: dict[str, Any], place: int, flips: list[str]) -> str:
    cells = "".join(f"<td>{_cell(row['figures'][name])}</td>" for name in (LDS, *flips))
    name = markup.escape(str(row["method"]).replace("_", " "))
    return (
        f'<tr><th scope="row"><i class="swatch of{place % COLOURS}"></i>{name}</th>{cells}'
        f"<td>{float(row['seconds']):.1f}</td></tr>"
    )


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    low, high = figure["interval"]
    star = "*" if figure.get("less_datamodels", {"interval": (0, 0)})["interval"][0] > 0 else ""
    return f"{figure['value']:.2f}{star} <small>{low:.2f} to {high:.2f}</small>"


def _chart(rows: Rows, flips: list[str]) -> str:
    """Draw the shares of targets that flip by number removed, with intervals; methods in the order of the table."""
    group = (WIDTH - LEFT - 20) / len(flips)
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 20}" y1="{HEIGHT * (1 - tick):.1f}" '
        f'y2="{HEIGHT * (1 - tick):.1f}"/><text x="{LEFT - 6}" y="{HEIGHT * (1 - tick) + 4:.1f}" '
        f'text-anchor="end">{tick:.0%}</text>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    ]
    for column, name in enumerate(flips):
        parts.append(
            f'<text x="{LEFT + group * (column + 0.5):.1f}" y="{HEIGHT + 20}" text-anchor="middle">{_k(name)}</text>'
        )
        for place, row in enumerate(rows):
            figure = row["figures"][name]
            x = LEFT + group * (column + (place + 1) / (len(rows) + 1))
            low, high = (HEIGHT * (1 - float(end)) for end in figure["interval"])
            what = markup.escape(f"{row['method']}, {_k(name)} removed: {figure['value']:.0%}")
            parts.append(
                f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
                f'<circle class="of{place % COLOURS}" cx="{x:.1f}" cy="{HEIGHT * (1 - figure["value"]):.1f}" r="5">'
                f"<title>{what}</title></circle>"
            )
    parts.append(charts.axes(WIDTH / 2, HEIGHT + 40, "examples removed", -10, HEIGHT / 2, "targets that flip"))
    label = "Share of targets that flip, by method and number of examples removed"
    return charts.svg(label, HEIGHT + 46, "".join(parts), left=charts.BESIDE)
