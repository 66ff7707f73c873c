"""What people call runs and edited models: titles, tags, search, and the names on figures."""

import sqlite3

import pandas as pd
import plotly.graph_objects as go
import pytest

from workbench.comparison.lineage import dependants
from workbench.errors import WorkbenchError
from workbench.store import Store
from workbench.store.settings import differing, outcome, settings
from workbench.subjects.edits import Edit
from workbench.subjects.intervention import (
    Intervention,
    delete_intervention,
    rename_intervention,
    saved,
)
from workbench.ui.parts import titles

pytestmark = pytest.mark.quick

BASE = "shelf-base"
"""A bundled model, of which only the name is used."""


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.delenv("WORKBENCH_STORE", raising=False)
    return Store()


def made(store, title, config=None, kind="train", result=None) -> str:
    with store.record(kind, title, config or {}) as tracker:
        tracker.result = result
    return tracker.run_id


def test_a_run_is_renamed_and_tagged_and_found_by_both(store):
    first = made(store, "rank 4", {"lora": {"r": 4}})
    second = made(store, "100% of it")
    store.rename(first, "  Sentiment ")
    run = store.tag(first, ["paper", "figure 2", "paper"])
    assert (run.title, run.tags) == ("Sentiment", ("figure 2", "paper"))
    assert [r.id for r in store.list(search="senti")] == [first]
    assert [r.id for r in store.list(search='"r": 4')] == [first]
    assert [r.id for r in store.list(search="0% o")] == [second]
    assert not store.list(search="1_0")
    assert [r.id for r in store.list(tag="paper")] == [first]
    assert not store.list(tag="pap")
    assert store.tags() == ["figure 2", "paper"]
    assert store.tag(first, []).tags == ()
    store.tag(first, ["x"])
    store.delete(first)
    assert store.tags() == []


@pytest.mark.parametrize("title", ["", "  ", "two\nlines", "x" * 201])
def test_a_title_that_no_list_can_show_is_refused(store, title):
    run_id = made(store, "good")
    with pytest.raises(WorkbenchError, match="a title is one line"):
        store.rename(run_id, title)
    with pytest.raises(WorkbenchError, match="a tag is one line"):
        store.tag(run_id, ["good", title])
    assert (store.get(run_id).title, store.get(run_id).tags) == ("good", ())


def test_a_store_of_an_older_workbench_keeps_its_runs_and_gains_tags(store, tmp_path):
    run_id = made(store, "old")
    store._engine.dispose()
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute("DROP TABLE tags")
        database.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    newer = Store()
    assert newer.tag(run_id, ["kept"]).title == "old"
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        assert database.execute("SELECT value FROM meta").fetchall() == [("2",)]


def test_texts_name_runs_by_their_titles_and_steps(store):
    run_id = made(store, "Mine")
    twin = made(store, "Same")
    twin2 = made(store, "Same")
    for step in (10, 1500):
        (store.get(run_id).folder / "checkpoints" / f"step-{step:07d}").mkdir(parents=True)
    assert store.titled(f"run:{run_id}") == "Mine"
    assert store.titled(f"run:{run_id}@1500 and run:{run_id}@10+no_heads") == (
        "Mine and Mine, step 10+no_heads"
    )
    assert store.titled("run:20200101-000000-0000") == "run:20200101-000000-0000"
    both = store.titled(f"run:{twin}|run:{twin2}").split("|")
    assert all(text.startswith("Same (") for text in both)


def test_figures_and_boxes_show_titles_and_their_values_stay_names(store):
    run_id = made(store, "Mine")
    name = f"run:{run_id}"
    figure = go.Figure(
        [
            go.Bar(name=name, y=[name, "plain-model"], x=[1, 2], orientation="h"),
            go.Bar(name="plain-model", y=pd.Series([name, "other"]), x=[3, 4]),
        ]
    )
    figure.update_layout(title=f"{name} against others", yaxis={"categoryarray": [name]})
    figure.add_annotation(text=f"of {name}", x=1, y=name)
    shown = titles.title_figure(figure)
    assert "run:" not in str(shown.to_dict())
    traces = shown.to_dict()["data"]
    assert [trace["name"] for trace in traces] == ["Mine", "plain-model"]
    assert list(traces[1]["x"]) == [3, 4]
    assert figure.to_dict()["data"][0]["name"] == name
    plain = go.Figure(go.Heatmap(z=[[1.0]]))
    assert titles.title_figure(plain) is plain
    assert titles.option(name) == f"Mine · {name}"
    assert titles.bare(titles.option(name)) == name
    assert titles.bare("a · folder") == "a · folder"
    assert titles.option("plain-model") == "plain-model"


def test_runs_tell_in_which_settings_they_differ(store):
    shared = {"title": "a", "train": {"lr": 0.1, "steps": 5}, "sources": ["x"]}
    ids = [
        made(store, "a", shared),
        made(store, "b", shared | {"title": "b", "train": {"lr": 0.2, "steps": 5}}),
        made(store, "c", shared | {"train": {"lr": 0.3, "steps": 6}, "lora": {"r": 4}}),
    ]
    runs = [store.get(run_id) for run_id in ids]
    assert settings(runs[2])["lora.r"] == 4
    assert differing(runs) == ["train.lr", "train.steps", "lora.r"]
    assert differing(runs[:1]) == []


def test_what_a_run_came_to_is_told_in_a_few_words(store):
    change = {"metric": "accuracy", "base": 0.5, "tuned": 0.75}
    assert outcome(store.get(made(store, "a", result={"changes": [change]}))) == (
        "accuracy 0.500 → 0.750"
    )
    assert outcome(store.get(made(store, "b", result={"validation_loss": 1.5}))) == (
        "validation loss 1.500"
    )
    with pytest.raises(WorkbenchError), store.record("train", "c", {}) as tracker:
        raise WorkbenchError("no text")
    assert outcome(store.get(tracker.run_id)) == "no text"


def test_edited_models_are_renamed_and_deleted_and_say_what_is_made_from_them(store):
    edit = Edit(0, "z", (1,))
    first = Intervention("first", BASE, (edit,))
    first.save()
    Intervention("second", "edit:first", (edit,)).save()
    assert dependants("edit:first") == ["edit:second"]
    assert set(dependants(BASE)) == {"edit:first"}
    with pytest.raises(WorkbenchError, match="exists already"):
        rename_intervention("edit:first", "second")
    with pytest.raises(WorkbenchError, match="letters, digits"):
        rename_intervention("second", "../up")
    assert rename_intervention("edit:second", "third") == "edit:third"
    delete_intervention("first")
    assert [path.stem for path in saved()] == ["third"]
    with pytest.raises(WorkbenchError, match="no intervention 'first'"):
        delete_intervention("first")


def test_a_store_that_cannot_be_read_leaves_the_names(store, tmp_path):
    name = f"run:{made(store, 'Mine')}"
    assert titles.titled(f"of {name}") == "of Mine"
    titles.renamed()
    titles._store.clear()
    store._engine.dispose()
    for path in tmp_path.glob("store.sqlite*"):
        path.write_bytes(b"no database" * 100)
    assert titles.titled(f"of {name}") == f"of {name}"
