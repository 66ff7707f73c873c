"""The README's Python runs as it stands."""

import re
from pathlib import Path


def test_the_ten_lines_run(tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.S).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 11
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "attention.html").stat().st_size > 100_000
    printed = capsys.readouterr().out
    assert "effect" in printed and "intents" in printed and "distance" in printed
