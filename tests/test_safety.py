"""What comes from outside does not run: task files, links and chat templates, tried with a canary
file.
"""

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

import workbench as wb
from tests.conftest import subject_of, tiny_gpt
from workbench import paths
from workbench.benchmarks.documents.user_tasks import TaskError, trusting
from workbench.benchmarks.suites import find_suite
from workbench.benchmarks.tasks import load_tasks
from workbench.errors import WorkbenchError
from workbench.ui.parts.notices import plain
from workbench.ui.parts.registered import registered

DOCS = [{"q": f"{n} 1 2", "choices": ["3", "4", "5", "6"], "gold": n % 4} for n in range(6)]


@pytest.fixture
def write(tmp_path):
    """Writes a task file with other settings than a good one's; gives its path."""
    (tmp_path / "test.json").write_text("\n".join(map(json.dumps, DOCS)))

    def one(name: str = "mine", extra: str = "", **changes) -> str:
        settings = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(tmp_path / "test.json")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{q}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "gold",
            "metric_list": [{"metric": "acc"}],
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        lines = [
            f"{key}: {json.dumps(value)}" for key, value in settings.items() if value is not None
        ]
        path.write_text("\n".join([*lines, extra]))
        return str(path)

    return one


@pytest.fixture(scope="module")
def subject():
    return subject_of(tiny_gpt())


ESCAPES = (
    "{{{{ cycler.__init__.__globals__.os.system('touch {canary}') }}}}",
    "{{{{ ''.__class__.__mro__[1].__subclasses__() }}}}",
    "{{{{ lipsum.__globals__['os'].popen('touch {canary}').read() }}}}",
    "{{{{ q.__class__.__base__.__subclasses__() }}}}",
    "{{% set x = choices.append('7') %}}{{{{ self.__init__.__globals__ }}}}",
    "{{{{ 'x' * 10**10 }}}}",
    "{{{{ 9 ** 9 ** 9 }}}}",
)


@pytest.mark.parametrize(
    "field", ["doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix"]
)
@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_does_not_get_out_of_its_document(subject, write, tmp_path, field, template):
    canary = tmp_path / "canary"
    path = write(**{field: template.format(canary=canary)})
    with pytest.raises(WorkbenchError, match=r"mine.*(template|settings)"):
        wb.evaluate(subject, path, limit=2, cache=False)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("changes", "extra", "message"),
    [
        ({}, "process_docs: !function canary.run", r"process_docs: !function canary.run"),
        (
            {"metric_list": None},
            "metric_list:\n  - metric: !function canary.run",
            "metric: !function",
        ),
        ({}, "class: !function canary.Task", "class"),
        ({"metric_list": [{"metric": "./canary.py"}]}, "", r"metric: ./canary.py"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "", "hf_evaluate"),
        ({"dataset_path": "pandas"}, "", "dataset_path: pandas"),
        ({"dataset_path": "canary.py"}, "", "dataset_path: canary.py"),
        ({"unsafe_code": True}, "", "unsafe_code"),
        ({"use_prompt": "x:y"}, "", "use_prompt"),
        ({"include": "other.yaml"}, "", r"!function canary.run"),
    ],
)
def test_what_would_run_code_is_refused_and_not_imported(write, tmp_path, changes, extra, message):
    canary = tmp_path / "ran"
    (tmp_path / "canary.py").write_text(
        f"open({str(canary)!r}, 'w')\ndef run(docs):\n    return docs\n"
    )
    (tmp_path / "other.yaml").write_text("process_docs: !function canary.run\n")
    path = write(extra=extra, **changes)
    with pytest.raises(TaskError, match=f"would run code of its own .*{message}.*--trust-tasks"):
        load_tasks(path)
    assert not canary.exists()


def test_on_the_command_line_a_trusted_file_may_run_its_python(write, tmp_path):
    (tmp_path / "canary.py").write_text("def run(docs):\n    return docs.select([0, 1])\n")
    path = write(extra="process_docs: !function canary.run")
    with trusting():
        assert len(load_tasks(path)["mine"].eval_docs) == 2
    with pytest.raises(TaskError):
        load_tasks(path)


def test_one_bad_task_is_left_out_with_its_reason_and_the_rest_runs(subject, write, tmp_path):
    good = write("good", metric_list=[{"metric": "acc"}, {"metric": "acc_mutual_info"}])
    bad = {
        write("field", doc_to_text="{{nothere}}"): "'nothere' is undefined",
        write("metric", metric_list=[{"metric": "accuracyy"}]): "there is no metric 'accuracyy'",
        write(
            "split", test_split="tset"
        ): "test_split is 'tset', and the data has no split of that name",
        write("answer", doc_to_target="seven"): "the answer 'seven' is none of its choices",
        write("number", doc_to_target="7"): "its answer is none of its choices",
        write(
            "expression",
            output_type="generate_until",
            doc_to_choice=None,
            metric_list=[{"metric": "exact_match"}],
            filter_list=[
                {"name": "cut", "filter": [{"function": "regex", "regex_pattern": "\\u"}]}
            ],
        ): "it has a regular expression that cannot be read",
        write("nameless", task=None): "it has no name; add a line such as task: nameless",
        write(
            "setting", doc_to_txt="{{q}}"
        ): "there is no setting 'doc_to_txt'; did you mean doc_to_text",
        write("broken", extra="a: [") + "": "not YAML",
        str(tmp_path / "gone.yaml"): "there is no such task file",
        "agreemnt": "There is no task 'agreemnt'; did you mean agreement",
    }
    results = wb.evaluate(subject, [*bad, good], limit=4, cache=False)
    reasons = dict(results.skipped)
    assert reasons.keys() == bad.keys()
    for name, words in bad.items():
        assert words in reasons[name], (words, reasons[name])
    rows = {row.metric: row for row in results.rows}
    assert {row.task for row in results.rows} == {"good"}
    assert rows["acc"].chance == rows["acc_mutual_info"].chance == 0.25
    for sample in results.samples.to_dict("records"):
        assert json.loads(sample["choices"]) == [" 3", " 4", " 5", " 6"]
        assert sample["prediction"] < 4
        values = json.loads(sample["loglikelihoods"])
        assert len(values) == 4 and sample["prediction"] == values.index(max(values))


def test_a_task_file_is_a_suite_of_one_and_a_suite_finds_the_tasks_beside_it(
    write, tmp_path, monkeypatch
):
    path = write("single")
    assert find_suite(path).tasks == [path]
    (tmp_path / "both.yaml").write_text("name: both\ntasks: [single.yaml, repeat]\n")
    monkeypatch.chdir("/")
    assert find_suite(str(tmp_path / "both.yaml")).tasks == [path, "repeat"]
    from workbench.cli.app import app

    done = CliRunner().invoke(
        app, ["eval", "shelf-base", "--suite", path, "--limit", "3", "--json"]
    )
    assert done.exit_code == 0, done.exception
    record = json.loads(done.stdout)["models"]["shelf-base"]
    assert [row["task"] for row in record["rows"]] == ["single"] and record["skipped"] == []


def test_a_link_cannot_name_a_file(write, tmp_path):
    """The page is merely opened, as a foreign website can have it; the file is a task that would
    run a command.
    """
    canary = tmp_path / "canary"
    path = write(doc_to_text=ESCAPES[0].format(canary=canary))
    for on in (path, f"probe:{path}", "../" + Path(path).name):
        app = AppTest.from_file(str(paths.shelf("pages") / "transplant.py"), default_timeout=300)
        app.query_params["on"] = on
        app.query_params["n"] = "4"
        app.run()
        assert not app.exception and "is a file, and a page takes only names" in app.error[0].value
    assert not canary.exists()
    for name in ("/a/b.yaml", "~/x", "./x.yml", "x.toml", "a\\b", "harness:/etc/x.yaml"):
        with pytest.raises(WorkbenchError, match="registered suites"):
            registered(name, "suite")
    assert registered("arc_easy@shots=2") == "arc_easy@shots=2"


def test_words_from_outside_are_no_markdown():
    outside = "![p](http://example.com/x.png) $x$ :red[y] `z` <b>\n- [train] steps"
    assert plain(outside).count("\\") >= 14
    app = AppTest.from_file(str(paths.shelf("pages") / "attention.py"), default_timeout=300)
    app.query_params["model"] = "![p](http://example.com/x.png)"

    def page() -> None:
        from workbench.errors import WorkbenchError
        from workbench.ui.parts.notices import fault

        fault(WorkbenchError("no model ![p](http://example.com/x.png) :red[y] $x$"))

    shown = AppTest.from_function(page).run().error[0].value
    assert "![p](" not in shown and ":red[" not in shown and r"\$x\$" in shown


def test_pages_show_errors_through_the_one_place_that_escapes_them():
    import re

    for folder in (paths.shelf("pages"), paths.PACKAGE / "ui"):
        for path in folder.glob("*.py"):
            calls = re.findall(
                r"st\.(?:error|warning|info|toast)\([^)]*\berror\b",
                path.read_text(encoding="utf-8"),
            )
            assert path.name in ("notices.py", "lens.py") or not calls, (path, calls)


def test_a_chat_template_does_not_get_out_either(tmp_path):
    from jinja2.exceptions import SecurityError

    tokenizer = wb.load("shelf-base").tokenizer
    canary = tmp_path / "canary"
    tokenizer.chat_template = ESCAPES[0].format(canary=canary)
    try:
        with pytest.raises(SecurityError):
            tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    finally:
        tokenizer.chat_template = None
    assert not canary.exists()


@pytest.mark.parametrize("place", ["missing/x.html", "."])
def test_a_place_that_cannot_be_written_is_noticed_before_the_work(tmp_path, place):
    from workbench.cli.app import app

    file = str(tmp_path / place)
    commands = (
        ["eval", "shelf-base", "--suite", "repeat"],
        ["attention", "shelf-base", "--prompt", "x"],
        ["ablate", "shelf-base", "L0H0"],
        ["transplant", "shelf-base", "shelf-tuned", "L0"],
        ["report", "shelf-base", "shelf-tuned"],
    )
    for command in commands:
        caught = CliRunner().invoke(app, [*command, "--out", file]).exception
        assert isinstance(caught, WorkbenchError) and "--out" in str(caught), (command, caught)
