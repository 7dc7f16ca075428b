"""Our distributions come from dist/, even if an index has newer ones with their names."""

import json
import zipfile
from pathlib import Path

import install_dist
import pytest


def test_a_stranger_s_distribution_with_one_of_our_names_is_never_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, needs in (("asgiref_sync", ""), ("asgiref_wsgi", "Requires-Dist: asgiref-sync\n")):
        for folder, version in (("dist", "1.0"), ("index", "9.0")):
            (tmp_path / folder).mkdir(exist_ok=True)
            stem = f"{name}-{version}"
            with zipfile.ZipFile(tmp_path / folder / f"{stem}-py3-none-any.whl", "w") as wheel:
                metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
                wheel.writestr(f"{stem}.dist-info/METADATA", f"{metadata}Provides-Extra: tests\n")
                wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    monkeypatch.setattr(install_dist, "DIST", tmp_path / "dist")
    monkeypatch.setattr(install_dist, "PACKAGES", {"asgiref-sync", "asgiref-wsgi"})
    pip = install_dist.pip
    monkeypatch.setattr(install_dist, "pip", lambda *words: words[0] == "install" and pip(*words))
    for option, value in {"NO_INDEX": "1", "DRY_RUN": "1", "REPORT": "-"}.items():
        monkeypatch.setenv(f"PIP_{option}", value)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    install_dist.main("packages/asgiref-wsgi")
    installed = [each["metadata"] for each in json.loads(capfd.readouterr().out)["install"]]
    assert {(each["name"].replace("_", "-"), each["version"]) for each in installed} == {
        ("asgiref-sync", "1.0"),
        ("asgiref-wsgi", "1.0"),
    }
