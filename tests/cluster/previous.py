"""The chart versions before this one, in git. `python -m tests.cluster.previous` prints commit and version of each."""

import dataclasses
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CHART = Path("helm") / "datamodels"
FILE = CHART / "Chart.yaml"
OLDEST = 2
"""How many versions back an upgrade is tried from."""


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of the chart: its number, and the newest commit that changed Chart.yaml while it had that number."""

    number: str
    commit: str
    app: str

    def repository(self, image: str) -> str:
        """Return the repository of the images that `make previous-images IMAGE=...` makes of that commit."""
        return f"{image}-chart-{self.number}"


def versions() -> list[Version]:
    """Return the versions before this one, the newest first; fewer if git knows no more (a shallow clone)."""
    found = {yaml.safe_load((ROOT / FILE).read_text())["version"]: None}
    for commit in git("log", "--format=%H", "--", str(FILE)).split():
        chart = yaml.safe_load(git("show", f"{commit}:{FILE}")) or {}
        if chart and chart["version"] not in found:
            found[chart["version"]] = Version(chart["version"], commit, chart["appVersion"])
    return list(found.values())[1:][:OLDEST]


def git(*arguments):
    """Return what git prints, "" if it fails."""
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    for version in versions():
        print(version.commit, version.number)
