"""The version of medseg, installed or run from a checkout."""

from importlib.metadata import PackageNotFoundError, version

import pytest

from medseg.system import version as module


def fail(name):
    raise PackageNotFoundError(name)


@pytest.fixture(autouse=True)
def fresh():
    module.medseg_version.cache_clear()
    yield
    module.medseg_version.cache_clear()


def test_the_version_of_an_installed_package():
    try:
        expected = version("medseg")
    except PackageNotFoundError:
        pytest.skip("medseg is not installed")
    assert module.medseg_version() == expected


def test_a_checkout_that_is_not_installed_has_the_version_of_its_pyproject(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "version", fail)
    monkeypatch.setattr(module, "_PYPROJECT", tmp_path / "pyproject.toml")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "medseg"\nversion = "1.2.3"\n')
    assert module.medseg_version() == "1.2.3"


@pytest.mark.parametrize("content", [None, "not toml", '[project]\nname = "other"\nversion = "1"\n'])
def test_without_package_and_pyproject_the_version_is_unknown(content, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "version", fail)
    monkeypatch.setattr(module, "_PYPROJECT", tmp_path / "pyproject.toml")
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    assert module.medseg_version() == "0+unknown"
