"""Maps the folders of the repository to packages; everything else is in pyproject.toml.

`services/` installs as `datamodels.services`: a top-level package called `services` would collide with those of users.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages("shared", include=["datamodels*"]), "datamodels.services"]
    + [f"datamodels.services.{name}" for name in find_packages("services")],
    package_dir={"datamodels": "shared/datamodels", "datamodels.services": "services"},
)
