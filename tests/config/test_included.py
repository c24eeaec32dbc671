"""The configuration files of an installation."""

from importlib import metadata

from medseg.config import included


def test_included_configs_of_an_installation_are_those_it_recorded(tmp_path, monkeypatch):
    # as `pip install --user` does: modules in one folder, data files in another, both in the record
    package = tmp_path / "lib" / "python3.11" / "site-packages"
    share = tmp_path / "share" / "medseg" / "configs"
    share.mkdir(parents=True)
    (share / "a.yaml").write_text("")
    info = package / "medseg-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: medseg\nVersion: 1.0\n")
    (info / "RECORD").write_text("medseg/config/included.py,,\n../../../share/medseg/configs/a.yaml,,\n")
    monkeypatch.setattr(included, "__file__", str(package / "medseg" / "config" / "included.py"))
    monkeypatch.setattr(metadata, "files", lambda name: metadata.PathDistribution(info).files)
    assert included.included_configs() == [share / "a.yaml"]
