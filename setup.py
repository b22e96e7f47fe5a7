"""What pyproject.toml has no words for: the folder studies/ is installed as mmtune.studies."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mmtune", "mmtune.*"]), "mmtune.studies"],
    package_dir={"mmtune.studies": "studies"},
)
