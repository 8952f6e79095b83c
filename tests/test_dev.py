"""dev.py: what it asks of the machine, what it writes into the lock, when it repairs `.venv`."""

import os
import subprocess
import sys

import pytest

import dev
from tests.rules import ROOT


def package(name: str, version: str, url: str = "file:///nowhere") -> dict:
    return {"metadata": {"name": name, "version": version}, "download_info": {"url": url}}


@pytest.fixture
def sizes(monkeypatch):
    monkeypatch.setattr(dev, "download_size", lambda url: 1_500_000)


def test_the_lock_drops_local_suffixes_and_the_packages_of_the_cuda_build(sizes):
    packages = [package("torch", "2.13.0+cpu"), package("nvidia-cublas", "13.1"),
                package("cuda-bindings", "13.5"), package("Jinja2", "3.1.6")]  # fmt: skip
    lines = dev.lock_text(packages).splitlines()
    assert lines[0].startswith("# 2 packages, 3 MB to download;")
    assert lines[2:] == ["Jinja2==3.1.6", "torch==2.13.0"]


def test_the_lock_has_every_requirement_by_name():
    pinned = {line.partition("==")[0].lower() for line in dev.LOCK.read_text().splitlines()}
    wanted = {bare_name(requirement) for requirement in dev.requirements()}
    assert wanted <= pinned


def bare_name(requirement: str) -> str:
    return requirement.replace(">", "=").partition("=")[0].lower()


def test_missing_system_packages_abare_named_in_one_line_to_type(monkeypatch):
    monkeypatch.setattr(dev, "SYSTEM_PACKAGES", {"g++": lambda: True, "libegl1": lambda: False})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(dev.SetupError, match=r"sudo apt-get update && sudo .* libegl1\n"):
        dev.install_system_packages()


def test_root_on_debian_updates_the_lists_and_installs_what_is_missing(monkeypatch):
    ran = []
    monkeypatch.setattr(dev, "SYSTEM_PACKAGES", {"g++": lambda: True, "libegl1": lambda: False})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(dev.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(dev, "run", lambda *command, environment=None: ran.append(command))
    dev.install_system_packages()
    assert ran[0][:2] == ("apt-get", "update")
    assert ran[1][:2] == ("apt-get", "install")
    assert "libegl1" in ran[1]
    assert "g++" not in ran[1]


def test_a_torn_distribution_is_found(tmp_path):
    for name, file in {"whole": "whole.py", "torn": "gone.py"}.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"{file},,\n")
    (tmp_path / "whole.py").touch()
    answer = subprocess.run(
        [sys.executable, "-c", dev.FIND_TORN],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "torn" in answer.stdout.split()
    assert "whole" not in answer.stdout.split()


@pytest.mark.parametrize("file", ["requirements.lock", "pyproject.toml"])
def test_the_stamp_changes_with_what_is_installed_from(tmp_path, monkeypatch, file):
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "LOCK", tmp_path / "requirements.lock")
    before = dev.stamp()
    (tmp_path / file).write_text("something else")
    assert dev.stamp() != before


def test_an_old_python_is_told_what_it_takes(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(dev.SetupError, match=r"3\.11 or newer"):
        dev.setup(skip_system=True)


def test_help_names_every_verb():
    answer = subprocess.run(
        [sys.executable, "dev.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(verb in answer.stdout for verb in dev.VERBS)


@pytest.mark.parametrize("words", [[], ["walk"], ["clean", "--everything"]])
def test_an_unknown_word_is_refused(words):
    answer = subprocess.run(
        [sys.executable, "dev.py", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 2
    assert "usage: dev.py" in answer.stderr
