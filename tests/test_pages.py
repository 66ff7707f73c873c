"""Every page alone: it shows no fault, and the Python that it offers runs as it stands."""

import tomllib

import pytest
from streamlit.testing.v1 import AppTest
from transformers import Lfm2Config, Lfm2ForCausalLM

from workbench import paths

QUICK = [
    ("models", {}),
    ("chat", {"models": ["shelf-base", "shelf-tuned"], "n": "8"}),
    ("chat", {"mode": "Chat", "n": "8"}),
    ("chat", {"mode": "Passage"}),
    ("attention", {"head": "L3H2"}),
    ("heads", {"source": "your own text", "own": "Once upon a time there was, once upon a time."}),
    ("anatomy", {}),
    ("runs", {}),
    ("anatomy", {"model": "shelf-reverse"}),
    ("positions", {"more": "Position or content"}),
    ("patching", {}),
    (
        "patching",
        {
            "answer": " horse, the black dog.",
            "wrong": " dog, the black horse.",
            "site": "z",
            "metric": "log_prob",
        },
    ),
    ("patching", {"site": "attn_out", "window": "3", "together": "mlp_out", "replacement": "mean"}),
    ("attribution", {"probe": "My own prompts", "site": "resid_pre"}),
    ("lens", {}),
    ("lens", {"lens_view": "By part"}),
    ("lens", {"lens_view": "By token"}),
    ("linear", {"n": "300"}),
    ("steering", {}),
    ("benchmarks", {"suite": "inside", "limit": "2"}),
    *(("compare", {"compare_view": view}) for view in ("Text", "Weights")),
    ("transplant", {"transplant_view": "Activations", "n": "4"}),
    ("dynamics", {}),
    ("pictures", {"pixel": "35"}),
    ("pictures", {"pictures_view": "Complete", "rows": "5"}),
    ("pictures", {"pictures_view": "Places"}),
    ("pictures", {"picture_model": "shelf-vit", "head": "rollout", "position": "r1 c1"}),
    ("pictures", {"picture_model": "shelf-vit", "pictures_view": "Patch", "site": "z"}),
    ("pictures", {"picture_model": "shelf-tones"}),
    ("privacy", {}),
    ("privacy", {"corpus": "tinyshakespeare", "kinds": ["email", "phone"]}),
    ("privacy", {"privacy_view": "A model", "canaries": "The code of Anna is {}=31"}),
    ("fairness", {"task": "winobias_resolution", "limit": "12"}),
    ("resources", {"what": "tiny", "gpus": ["H100"]}),
    ("resources", {"resources_view": "Now"}),
    ("resources", {"resources_view": "Scaling law"}),
]
"""A page and what its URL asks for, on the bundled models."""
LONG = [
    ("heads", {}),
    ("positions", {"more": "Loss by position"}),
    ("positions", {"models": ["shelf-positions/rotary", "shelf-positions/alibi"]}),
    ("patching", {"probe": "induction", "pairs": "10"}),
    ("attribution", {"pairs": "10"}),
    *(("compare", {"compare_view": view}) for view in ("Layers", "Heads", "Several")),
    ("positions", {"more": "Position in the stream"}),
    ("positions", {"more": "Real queries and keys"}),
    ("heads", {"source": "real text", "head": "L5H4"}),
    (
        "heads",
        {
            "source": "your own text",
            "own": "One two three one two three one two.\n\nA b c d a b c d a b c d.",
        },
    ),
    ("circuits", {}),
    ("compare", {"compare_view": "Behaviour"}),
    *(("transplant", {"transplant_view": view}) for view in ("Weights", "Make one", "Report")),
    *(("pictures", {"pictures_view": view}) for view in ("Classify", "Draw")),
    *(
        ("pictures", {"picture_model": "shelf-vit", "pictures_view": view})
        for view in ("Classify", "Lens", "Attribute", "Draw")
    ),
    *(
        ("pictures", {"picture_model": "shelf-tones", "pictures_view": view})
        for view in ("Classify", "Patch", "Lens", "Attribute")
    ),
    ("train", {}),
    ("fairness", {"limit": "12", "tuned": "shelf-tuned"}),
]
"""These score, train or benchmark for up to a minute each."""


@pytest.fixture(scope="module", autouse=True)
def own_home(home, tmp_path_factory):
    """A home without the runs of other tests: the page of a failed run rightly says so in red."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("pages")))
        yield


def opened(name: str, query: dict) -> AppTest:
    """A page, run as its URL asks."""
    app = AppTest.from_file(str(paths.shelf("pages") / f"{name}.py"), default_timeout=300)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def its_python_runs(app: AppTest) -> None:
    assert not app.exception and not app.error, [*app.exception, *app.error]
    offered = [block.value for block in app.code if block.language == "python"]
    assert offered, "the page offers no Python"
    for code in offered:
        exec(compile(code, "a page", "exec"), {})


@pytest.mark.parametrize(("name", "query"), QUICK)
def test_the_python_on_a_page_runs_as_it_stands(name, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    its_python_runs(opened(name, query))


def recipes_of(kind: str) -> list[str]:
    """The bundled recipes of a kind."""
    from workbench.training.recipe import Recipe, names

    return [name for name in names() if Recipe.read(name).kind == kind]


@pytest.mark.parametrize("name", recipes_of("finetune"))
def test_the_form_of_every_fine_tune_takes_a_private_budget(name):
    app = opened("train", {})
    app.selectbox[0].set_value(name).run()
    assert not app.exception and not app.error, [*app.exception, *app.error]
    (budget,) = [box for box in app.number_input if "epsilon" in box.label]
    assert budget.value == 0
    budget.set_value(4.0).run()
    assert not app.exception and not app.error, [*app.exception, *app.error]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "query"), LONG)
def test_the_python_of_a_long_study_runs_as_it_stands(name, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    its_python_runs(opened(name, query))


def test_the_python_of_a_form_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = opened("circuits", {"about": "a benchmark task"})
    app.number_input[0].set_value(8)
    app.text_input[0].set_value("L0H0, L5H4")
    its_python_runs(app.button[0].click().run())


@pytest.mark.slow
def test_the_python_of_a_trained_lens_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    its_python_runs(opened("lens", {"lens": "tuned"}).button[0].click().run())


@pytest.mark.parametrize(
    ("name", "query", "words"),
    [
        ("attention", {"routes": "true", "next": " extraordinarily"}, "give a single token"),
        ("positions", {"model": "MIXED"}, "patterns in 1 of 2 layers"),
        ("pictures", {"picture_model": "shelf-base"}, "no model of pictures"),
        ("privacy", {"corpus": "/etc/passwd"}, "a page takes only names"),
        ("privacy", {"corpus": "nothing"}, "no corpus 'nothing'"),
        ("privacy", {"privacy_view": "A model", "canaries": "code {} 31"}, "names no value"),
        ("fairness", {"task": "nothing"}, "no task 'nothing' on bias"),
    ],
)
def test_what_a_part_of_a_page_cannot_show_is_a_sentence_there(name, query, words, tmp_path):
    if query.get("model") == "MIXED":
        config = Lfm2Config(
            vocab_size=100,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=64,
            layer_types=["conv", "full_attention"],
        )
        Lfm2ForCausalLM(config).save_pretrained(tmp_path / "mixed")
        query = {"model": str(tmp_path / "mixed")}
    app = opened(name, query)
    assert not app.exception and words in app.error[0].value


def test_every_page_but_home_is_among_them():
    pages = {path.stem for path in paths.shelf("pages").glob("*.py")}
    assert pages - {"home"} == {name for name, _ in QUICK + LONG}


def form_with_own_data() -> None:
    import streamlit as st

    from workbench.training import Recipe
    from workbench.ui.views.train_uploads import with_own_data

    st.session_state["x own data"] = {
        "data": "mine.csv",
        "kind": "classification",
        "text": "review",
    }
    st.code(with_own_data("x", Recipe.read("finetune-intents")).to_toml())


def test_a_fifth_of_an_uploaded_set_is_held_out():
    """The recipe's own share, 2 %, goes with a set that has a test split: of 240 reviews it would
    leave six.
    """
    app = AppTest.from_function(form_with_own_data, default_timeout=60).run()
    assert not app.exception
    recipe = tomllib.loads(app.code[0].value)
    assert recipe["corpus"]["validation"] == 0.2
    assert recipe["task"]["data"] == "mine.csv" and recipe["task"]["text"] == "review"
