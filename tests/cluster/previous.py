"""The version before this one, in git. `python -m tests.cluster.previous` prints its commit."""

import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CHART = Path("helm") / "datamodels"
FILE = CHART / "Chart.yaml"


def commit():
    """Return the last commit that changed Chart.yaml while the chart had another version; "" if git knows none."""
    version = yaml.safe_load((ROOT / FILE).read_text())["version"]
    for found in git("log", "--format=%H", "--", str(FILE)).split():
        if described(found).get("version", version) != version:
            return found
    return ""


def described(commit):
    """Return Chart.yaml as of a commit; {} if it was not there."""
    return yaml.safe_load(git("show", f"{commit}:{FILE}")) or {}


def git(*arguments):
    """Return what git prints, "" if it fails."""
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    print(commit())
