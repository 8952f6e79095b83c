"""The command line: exit codes, one clear line for every wrong use, never a traceback."""

import ast
import io
import json
import os
from pathlib import Path

import pytest

from wmdsl.tools import cli

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = os.fspath(ROOT / "examples" / "paradigms" / "mot.wm")
BAD = "edition 2026\nmodel m {\n  straem a: language\n}\n"


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.wm"
    path.write_text(BAD, encoding="utf-8")
    return os.fspath(path)


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def test_help_names_every_verb_and_each_teaches_by_an_example(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for verb in cli.VERBS:
        assert f"\n  {verb}" in out


@pytest.mark.parametrize("verb", ["check", "fmt", "explain", "canon", "diff"])
def test_each_verb_teaches_by_an_example(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0 and f"example:\n  wmdsl {verb} " in out


@pytest.mark.parametrize("verb", cli.VERBS)
def test_each_verb_is_a_module(verb):
    path = ROOT / "wmdsl" / "tools" / f"{verb}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    names = {target.id for node in tree.body if isinstance(node, ast.Assign)
             for target in node.targets if isinstance(target, ast.Name)}  # fmt: skip
    assert {"arguments", "run"} <= functions and "EXAMPLE" in names


def test_no_words_are_wrong_use(capsys):
    assert run(capsys)[0] == 2


def test_a_misspelt_verb(capsys):
    code, _, err = run(capsys, "chekc", "x.wm")
    assert code == 2 and "did you mean `wmdsl check`?" in err


def test_a_missing_argument(capsys):
    code, _, err = run(capsys, "check")
    assert code == 2 and "FILE" in err


def test_check(capsys, bad):
    assert run(capsys, "check", EXAMPLE)[0] == 0
    code, out, _ = run(capsys, "check", EXAMPLE, bad)
    assert code == 1 and "error[WM010]" in out and "1 error" in out


def test_check_as_json_sarif_and_github(capsys, bad):
    code, out, _ = run(capsys, "check", bad, "--format", "json")
    assert code == 1 and json.loads(out)["diagnostics"][0]["code"] == "WM010"
    assert json.loads(run(capsys, "check", bad, "--format", "sarif")[1])["version"] == "2.1.0"
    assert run(capsys, "check", bad, "--format", "github")[1].startswith("::error ")
    assert json.loads(run(capsys, "check", EXAMPLE, "--format", "json")[1])["diagnostics"] == []


def test_check_reads_folders_and_single_models(capsys, tmp_path, bad):
    assert run(capsys, "check", os.fspath(tmp_path))[0] == 1
    assert run(capsys, "check", f"{EXAMPLE}:mot")[0] == 0
    code, out, _ = run(capsys, "check", f"{EXAMPLE}:mto")
    assert code == 1 and "did you mean `mot`?" in out


@pytest.mark.parametrize("words", [["-P", "chunk"], ["-P", "=4"], ["-P", "chunk="], ["-P"]])
def test_a_malformed_parameter_is_wrong_use(capsys, words):
    code, _, err = run(capsys, "check", EXAMPLE, *words)
    assert code == 2 and "-P" in err


def test_parameters_are_checked(capsys):
    code, out, _ = run(capsys, "check", EXAMPLE, "-P", "chnk=8")
    assert code == 1 and "did you mean `chunk`?" in out
    assert run(capsys, "check", EXAMPLE, "-P", "chunk=16")[0] == 0


@pytest.mark.parametrize("name", ["missing.wm", "", "folder"])
def test_a_file_that_cannot_be_read(capsys, tmp_path, name):
    (tmp_path / "folder").mkdir()
    code, out, _ = run(capsys, "check", os.fspath(tmp_path / name))
    assert code == 1 and "WM001" in out


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\x89PNG\0\0", "WM002"), ("modèl".encode("latin-1"), "WM003"), (b"x" * (10 << 20), "WM004"),
     (b"", "WM005"), (b"\xef\xbb\xbfedition 2026\r\n", "WM005")],
)  # fmt: skip
def test_a_file_that_is_no_spec(capsys, tmp_path, data, code, golden):
    path = tmp_path / "file.wm"
    path.write_bytes(data)
    status, out, _ = run(capsys, "check", os.fspath(path))
    assert status == 1 and f"error[{code}]" in out
    report = out.replace(os.fspath(path), "file.wm")
    golden(Path(__file__).parent / "diagnostics" / "goldens" / f"{code}_{len(data)}.txt", report)


def test_fmt_writes_checks_and_shows(capsys, tmp_path):
    path = tmp_path / "spec.wm"
    path.write_bytes(b"\xef\xbb\xbfmodel m{\r\nstream a:language}\r\n")
    assert run(capsys, "fmt", "--check", os.fspath(path))[0] == 1
    code, out, _ = run(capsys, "fmt", "--diff", os.fspath(path))
    assert code == 0 and "+  stream a: language" in out
    assert path.read_bytes().startswith(b"\xef")
    assert run(capsys, "fmt", os.fspath(path))[0] == 0
    assert path.read_bytes() == b"model m {\n  stream a: language\n}\n"
    assert run(capsys, "fmt", "--check", os.fspath(path)) == (0, "", "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.wm"]


def test_fmt_leaves_a_spec_with_errors_alone(capsys, bad):
    code, _, err = run(capsys, "fmt", bad)
    assert code == 1 and "WM010" in err
    assert Path(bad).read_text(encoding="utf-8") == BAD


def test_fmt_keeps_the_old_file_where_it_cannot_write(capsys, tmp_path, monkeypatch):
    path = tmp_path / "spec.wm"
    path.write_text("model m{}", encoding="utf-8")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    code, _, err = run(capsys, "fmt", os.fspath(path))
    assert code == 2 and "No space left on device" in err
    assert path.read_text(encoding="utf-8") == "model m{}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.wm"]


def test_explain(capsys):
    assert run(capsys, "explain", "wm105")[1].startswith("# WM105: declared twice")
    assert "WM105  error" in run(capsys, "explain", "--list")[1]
    code, _, err = run(capsys, "explain", "WM1O5")
    assert code == 2 and "did you mean" in err
    assert run(capsys, "explain")[0] == 2


def test_canon_and_its_hash(capsys, bad):
    code, text, _ = run(capsys, "canon", EXAMPLE)
    assert code == 0 and text.startswith("edition 2026\n\nmodel mot {")
    import hashlib

    expected = hashlib.sha256(text.encode()).hexdigest()
    assert run(capsys, "canon", EXAMPLE, "--hash")[1] == expected + "\n"
    assert run(capsys, "canon", bad)[0] == 1


def test_diff(capsys):
    assert run(capsys, "diff", EXAMPLE, EXAMPLE)[1].startswith("no difference\n")
    other = EXAMPLE.replace("mot.wm", "single_backbone.wm")
    assert "- join experts: seer, doer" in run(capsys, "diff", EXAMPLE, other)[1]


def test_ctrl_c(capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    code, _, err = run(capsys, "check", EXAMPLE)
    assert code == 130 and err == "stopped\n"


def test_colour_is_for_terminals_only(monkeypatch, bad):
    from wmdsl.tools.check import check
    from wmdsl.tools.common import show

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(stream: io.StringIO) -> str:
        show(check([bad], {}), stream)
        return stream.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in shown(Terminal())
    assert "\x1b[" not in shown(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in shown(Terminal())


def test_a_folder_is_no_file(capsys):
    code, out, err = run(capsys, "plan", os.fspath(Path(EXAMPLE).parent))
    assert code == 1 and "this is a folder; name one of its files" in out + err


@pytest.mark.parametrize("verb", ["eval", "compare"])
def test_a_swap_has_two_sides(capsys, verb):
    given = ["run", "--env", "a/b", "--data", "d", "-o", "o", "--swap", "a"]
    if verb == "eval":
        given = ["run", "--env", "a/b", "--swap", "a"]
    code, _, err = run(capsys, verb, *given)
    assert code == 2 and "argument --swap: `a` is not ENV=OTHER" in err


@pytest.mark.parametrize("verb", ["check", "fmt"])
def test_an_empty_name_is_no_folder(capsys, tmp_path, monkeypatch, verb):
    """As where a script's variable is not set: no file of the folder is touched."""
    monkeypatch.chdir(tmp_path)
    Path("spec.wm").write_text("model m{stream a:language}")
    code, out, err = run(capsys, verb, "")
    assert code == 1 and "the name is empty" in out + err
    assert Path("spec.wm").read_text() == "model m{stream a:language}"


@pytest.mark.parametrize("value", ["abc", "8..9", "8 Hz", "-8", "64", "0.1 s"])
def test_a_value_that_does_not_fit_is_one_mistake(capsys, value):
    code, out, _ = run(capsys, "check", EXAMPLE, "-P", f"chunk={value}")
    assert code == 1 and out.rstrip().endswith("1 error")


def test_an_unknown_edition_is_replaced_whole(capsys, tmp_path):
    path = tmp_path / "spec.wm"
    path.write_text("edition 2025\nmodel m {\n}\n")
    _, out, _ = run(capsys, "check", os.fspath(path), "--format", "json")
    (found,) = json.loads(out)["diagnostics"]
    assert found["message"] == "`edition 2025` is not known"
    assert found["fixes"][0]["edits"][0]["text"] == "edition 2026"


def test_a_model_that_predicts_nothing_is_not_emitted(capsys, tmp_path):
    path = tmp_path / "spec.wm"
    path.write_text(
        "edition 2026\nmodel m {\n  stream a: action[4] at 80 Hz { future 16 steps }\n}\n"
    )
    assert run(capsys, "check", os.fspath(path))[0] == 0
    code, _, err = run(capsys, "emit", os.fspath(path))
    assert code == 1 and "error[WM813]: `m` has nothing to train" in err
