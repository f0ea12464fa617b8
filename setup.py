"""What pyproject.toml cannot say: the bundled configuration files become a package inside labctl."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["labctl*", "drivers*", "experiments*"]), "labctl._configs"],
    package_dir={"labctl._configs": "configs"},
    package_data={"labctl": ["py.typed"], "labctl._configs": ["*/*.yaml"]},
)
