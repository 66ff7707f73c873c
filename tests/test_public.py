"""The public API: every function by name and by Subject, every result short, drawn, and written as
strict JSON.
"""

import inspect
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.conftest import layout_of, tiny_gpt
from workbench.errors import WorkbenchError
from workbench.jsonable import plain, rebuild
from workbench.records import PLOTLY, Record
from workbench.training.changes import Changes
from workbench.training.recipe import Optimisation

CLEAN = "3 1 4 1 5 9"
CORRUPTED = "3 1 6 1 5 9"
PAIR = (CLEAN, CORRUPTED, "7", "8")
TEXTS = [
    "3 1 4 1 5 9 2 6 5 3 5 8 9 7 9 3 2 3 8 4 6 2 6 4 3 3 8 3 2 7 9 5 0 2 8 8 4 1 9 7 1 6",
    "2 7 1 8 2 8 1 8 2 8 4 5",
]
WORDS = ("answer", "wrong")
ENDS = dict(zip(WORDS, ("7", "8"), strict=True))

CALLS = {
    "ablation": lambda m: wb.ablation(m, [(0, 1)]),
    "anatomy": lambda m: wb.anatomy(m, CLEAN, layer=1, head=2),
    "attention": lambda m: wb.attention(m, CLEAN),
    "attention_by_distance": lambda m: wb.attention_by_distance(m, n=2, length=12),
    "attribution": lambda m: wb.attribution(m, PAIR, site="z"),
    "composition": wb.composition,
    "copying_scores": wb.copying_scores,
    "direct": lambda m: wb.direct(m, CLEAN, **ENDS),
    "encoding_study": lambda m: wb.encoding_study([m], TEXTS[:1] * 2, n=2),
    "gradient_attention": lambda m: wb.gradient_attention(m, CLEAN, answer="7"),
    "head_catalogue": lambda m: wb.head_catalogue(m, n=2, length=8),
    "head_scores": lambda m: wb.head_scores(m, n=2, length=8),
    "holders": lambda m: wb.holders(m, wb.Canary("3 1 4 {}", "5"), n=12, sizes=(1,), controls=1),
    "input_attribution": lambda m: wb.input_attribution(m, CLEAN, **ENDS),
    "lens": lambda m: wb.lens(m, CLEAN, answer="7"),
    "loss_by_position": lambda m: wb.loss_by_position(m, TEXTS[:1] * 2, width=8),
    "patch": lambda m: wb.patch(m, CLEAN, CORRUPTED, **ENDS),
    "position_encoding": wb.position_encoding,
    "position_probe": lambda m: wb.position_probe(m, n=10, length=12),
    "position_split": lambda m: wb.position_split(m, n=2, tokens=6, orders=4),
    "probe": lambda m: wb.probe(m, "induction", n=5, anyway=True, site="z"),
    "rotary_use": lambda m: wb.rotary_use(m, TEXTS, max_distance=8),
    "steering": lambda m: wb.steering(m, ["3 1"], ["4 1"], layer=0),
    "strongest_pairs": lambda m: wb.strongest_pairs(m, 0, 1, n=5),
    "tuned_lens": lambda m: wb.tuned_lens(m, [" ".join(TEXTS * 80)] * 2, steps=2, again=True),
}
"""Each function of one model that needs no trained one, on a tiny random model."""
TRAINED = {
    "circuit": lambda m: wb.circuit(m, "induction", n=5, steps=1, verify=2, audit=4),
    "evaluate": lambda m: wb.evaluate(m, "repeat", limit=6),
    "linear_probe": lambda m: wb.linear_probe(m, "number", n=120, layers=[2]),
    "needed_heads": lambda m: wb.needed_heads(m, "induction", n=5),
    "task_needs": lambda m: wb.task_needs(m, "repeat", heads=[(0, 0)], limit=6),
}
PAIRS = {
    "compare": lambda a, b: wb.compare(a, b, parts=["weights"]),
    "effect_of": lambda a, b: wb.effect_of(a, b, "induction", n=5),
    "locate": lambda a, b: wb.locate(a, b, "probe:induction", n=5, grain="layers", draws=1),
    "locate_activations": lambda a, b: wb.locate_activations(a, b, "probe:induction", n=3, last=1),
    "report": lambda a, b: wb.report(
        a, b, suite="intents", limit=2, on="probe:induction", n=5, grain="layers"
    ),
    "transplant": lambda a, b: wb.transplant(a, b, "L3H1", name="grafted"),
}


def digit() -> np.ndarray:
    """A picture that no model here trained on."""
    return wb.digits("test").images[0]


PICTURES = {
    "classify_pictures": lambda m: wb.classify_pictures(m, limit=8),
    "complete_picture": lambda m: wb.complete_picture(m, digit(), rows=6, n=2),
    "draw_digits": lambda m: wb.draw_digits(m, 3, n=2),
    "picture_attention": lambda m: wb.picture_attention(m, digit(), 3),
    "position_map": wb.position_map,
}
"""Each function of a model of pictures."""
ENCODERS = {
    "encoder_accuracy": lambda m: wb.encoder_accuracy(m, [digit()], [3]),
    "encoder_attention": lambda m: wb.encoder_attention(m, digit()),
    "encoder_attribution": lambda m: wb.encoder_attribution(m, digit()),
    "encoder_classes": lambda m: wb.encoder_classes(m, digit()),
    "encoder_lens": lambda m: wb.encoder_lens(m, digit()),
    "encoder_patching": lambda m: wb.encoder_patching(
        m, digit(), digit()[:, ::-1].copy(), answer=3, wrong=8
    ),
}
"""Each function of an encoder."""
NO_MODEL = {
    "costs",
    "machine",
    "scaling_law",
    "usage",
    "available",
    "available_probes",
    "compare_results",
    "digits",
    "flow",
    "read_intervention",
    "read_picture",
    "read_scores",
    "redact",
    "write_scores",
    "resume",
    "rollout",
    "scan",
    "suites",
    "tone",
}
ELSEWHERE = {
    *(
        "apply",
        "audit",
        "bias_heads",
        "fairness",
        "sweep",
        "load",
        "load_encoder",
        "model_card",
        "read_signal",
        "resume",
    ),
    *("train", "train_encodings"),
}
"""Of a model, but tested where it is trained, loaded or edited, or where there is a set of pairs;
`apply` gives a Subject, below.
"""
TIMES = ("seconds", "seconds_screen", "seconds_estimate", "seconds_exact", "created", "engine")
LONG = {"circuit", "encoding_study", "locate", "needed_heads", "report"}


def functions() -> list[str]:
    return [name for name in wb.__all__ if inspect.isfunction(getattr(wb, name))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A tiny random model on disk, whose text is its token ids."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_gpt().save_pretrained(path)
    return str(path)


def timeless(value):
    """The same without what differs from run to run."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def comparable(result):
    """A result in words that can be compared."""
    if isinstance(result, Record):
        return timeless(json.loads(result.to_json()))
    return plain(result)


def strict(text: str):
    """JSON read with an error at NaN and infinities."""

    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def check_record(name: str, result: Record) -> None:
    """What every record promises."""
    text = repr(result)
    assert len(text) < 300 and "\n" not in text and type(result).__name__ in text, text
    bundle = result._repr_mimebundle_()
    assert bundle["text/plain"] == text and len(bundle["text/html"]) > 100
    if PLOTLY in bundle:
        assert bundle[PLOTLY]["data"] and bundle[PLOTLY]["layout"]
    if name != "attention":  # which a notebook shows as the explorer, not as its figure
        assert (result.figure() is None) == (PLOTLY not in bundle)
    assert isinstance(result.to_frame(), pd.DataFrame) and len(result.to_frame()) > 0
    where = result.provenance
    assert where is not None and where.function == f"workbench.{name}"
    assert {"torch", "transformers", "transformer-lens", "gpt-workbench"} <= set(where.versions)
    assert where.models and all(len(sha256) == 64 for sha256 in where.models.values())
    # Its JSON is the file that says which edited model is meant.
    if not isinstance(result, wb.Intervention):
        written = strict(result.to_json())
        assert (
            written["record"] == type(result).__name__
            and written["provenance"]["models"] == where.models
        )
        assert written == plain(result.to_dict())


def check_way_back(result: Record) -> None:
    """A record is the same after JSON, but for what it says it leaves out."""
    if type(result).UNREADABLE:
        with pytest.raises(WorkbenchError, match="not made from its JSON"):
            type(result).from_json(result.to_json())
        return
    again = type(result).from_json(result.to_json())
    assert again.to_json() == result.to_json() and again.provenance == result.provenance
    assert repr(again) == repr(result)
    for entry in fields(cast("Any", result)):  # every record is a dataclass
        mine = getattr(result, entry.name)
        theirs = getattr(again, entry.name)
        if isinstance(mine, np.ndarray) and entry.name not in result.OMITTED:
            assert mine.shape == theirs.shape
            same = np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f")
            assert same, entry.name


def test_every_public_function_is_swept():
    assert {*CALLS, *TRAINED, *PAIRS, *PICTURES, *ENCODERS} | NO_MODEL | ELSEWHERE == set(
        functions()
    )


def each(names: Iterable[str]) -> list[Any]:
    """Parameters of a test for each function; those of `LONG` are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in names]


@pytest.mark.parametrize("name", each(CALLS))
def test_a_name_and_a_subject_give_the_same(name, folder, monkeypatch):
    by_name = CALLS[name](folder)
    by_subject = CALLS[name](wb.load(folder))
    if name in ("ablation", "steering"):  # of a Subject they know the short name
        assert by_name.base == folder and by_name.edits == by_subject.edits
    else:
        assert comparable(by_name) == comparable(by_subject)
    if isinstance(by_name, Record):
        check_record(name, by_name)
        if name not in ("ablation", "steering"):
            check_way_back(by_name)
    elif isinstance(by_name, pd.DataFrame):
        assert by_name.attrs["provenance"]["function"] == f"workbench.{name}"


@pytest.mark.parametrize("name", each(TRAINED))
def test_functions_of_trained_models_too(name):
    result = TRAINED[name]("shelf-base")
    check_record(name, result)
    check_way_back(result)
    assert set(result.provenance.models) == {"shelf-base"} and result.provenance.seed == 0
    if name not in ("circuit", "task_needs"):  # many seconds each: once is enough
        assert comparable(result) == comparable(TRAINED[name](wb.load("shelf-base")))


@pytest.mark.parametrize("name", each(PICTURES))
def test_functions_of_pictures_too(name):
    result = PICTURES[name]("shelf-digits")
    check_record(name, result)
    check_way_back(result)
    assert set(result.provenance.models) == {"shelf-digits"}
    assert comparable(result) == comparable(PICTURES[name](wb.load("shelf-digits")))


@pytest.mark.parametrize("name", each(ENCODERS))
def test_functions_of_encoders_too(name):
    result = ENCODERS[name]("shelf-vit")
    check_record(name, result)
    check_way_back(result)
    assert set(result.provenance.models) == {"shelf-vit"}
    assert comparable(result) == comparable(ENCODERS[name](wb.load_encoder("shelf-vit")))


@pytest.mark.parametrize("name", each(PAIRS))
def test_functions_of_two_models_too(name):
    result = PAIRS[name]("shelf-base", "shelf-tuned")
    check_record(name, result)
    if name != "transplant":
        check_way_back(result)
    assert {"shelf-base", "shelf-tuned"} == set(result.provenance.models)
    if name in ("compare", "transplant"):
        again = PAIRS[name](wb.load("shelf-base"), wb.load("shelf-tuned"))
        assert comparable(result) == comparable(again)


def test_an_edited_model_comes_from_names_alone():
    edited = wb.apply("shelf-base", wb.ablation("shelf-base", [(0, 1)], replacement="zero"))
    assert edited.card.parent == "shelf-base" and len(repr(edited)) < 300
    assert "architecture" in edited._repr_mimebundle_()["text/html"]


def test_settings_and_data_are_in_the_provenance(folder):
    result = wb.patch(folder, CLEAN, CORRUPTED, **ENDS, seed=3)
    where = result.provenance
    assert where is not None
    assert (
        where.seed == 3
        and where.arguments["site"] == "resid_pre"
        and "progress" not in where.arguments
    )
    other = wb.patch(folder, CLEAN, "3 1 2 1 5 9", **ENDS, seed=3).provenance
    assert other is not None
    assert (
        where.data["clean"] == other.data["clean"]
        and where.data["corrupted"] != other.data["corrupted"]
    )


def test_a_probe_file_s_bytes_are_hashed(folder, tmp_path):
    import hashlib

    from workbench import paths

    shelf = paths.shelf("probes") / "induction.toml"
    own = tmp_path / "mine.toml"
    own.write_bytes(shelf.read_bytes() + b"# another\n")
    for name, file in (("induction", shelf), (str(own), own)):
        result = wb.probe(folder, name, n=5, anyway=True, site="z")
        assert result.provenance is not None
        assert result.provenance.data["probe"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_signatures_are_spelt_out_and_say_the_same_words():
    kinds: dict[str, set[str]] = {}
    for name in functions():
        for parameter in inspect.signature(getattr(wb, name)).parameters.values():
            assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL), (
                name,
                parameter,
            )
            assert parameter.annotation is not parameter.empty, (name, parameter)
            kinds.setdefault(parameter.name, set()).add(str(parameter.annotation).strip("'"))
        assert inspect.getdoc(getattr(wb, name))
    assert not kinds.keys() & {"answers", "seen", "sequences", "had", "audited", "more", "changes"}
    for word in ("progress", "seed", "subject", "replacement", "n", "probe"):
        spelt = {kind.replace("Union[str, pathlib.Path, ", "") for kind in kinds[word]}
        assert len(spelt) <= 2, (word, spelt)  # written out, or quoted where the import would cost


def test_training_takes_every_word_of_the_recipe_s_table():
    words = {entry.name for entry in fields(Optimisation)}
    assert set(Changes.__annotations__) == words
    assert words < set(inspect.signature(wb.train).parameters)
    with pytest.raises(WorkbenchError, match="does not know stepz"):
        cast("Any", wb.train)("tiny", stepz=1)


def test_a_missing_argument_is_said_in_python_s_own_words(folder):
    # Python words it one way, the tests' shape checks the other.
    with pytest.raises(TypeError, match=r"missing (a required|\d required)"):
        cast("Any", wb.patch)(folder, CLEAN)


def test_a_failed_check_is_the_first_thing_to_be_seen(folder):
    from dataclasses import replace

    result = wb.patch(folder, CLEAN, CORRUPTED, **ENDS)
    wrong = replace(result, checks={"plain_model": 1.0})
    assert "NOT TO BE BELIEVED" not in repr(result) and "NOT TO BE BELIEVED" in repr(wrong)
    figure = wrong.figure()
    assert figure is not None and "not to be believed" in str(layout_of(figure).title.text)


def test_numbers_that_json_lacks_become_null_and_come_back_as_nan(tmp_path):
    values = np.array([[1.5, np.nan], [np.inf, -2.0]])
    assert plain({"a": values, "b": float("nan")}) == {"a": [[1.5, None], [None, -2.0]], "b": None}
    again = rebuild(np.ndarray, plain(values))
    np.testing.assert_array_equal(np.isnan(again), [[False, True], [True, False]])
    assert again[0, 0] == 1.5 and again[1, 1] == -2.0
    with pytest.raises(TypeError, match="has no JSON"):
        plain(object())


def test_a_record_is_saved_and_read(folder, tmp_path):
    record = wb.direct(folder, CLEAN, **ENDS)
    path = record.save(tmp_path / "direct.json")
    assert type(record).read(path).to_json() == record.to_json()
    for text, words in (
        ("{", "not JSON"),
        ("[]", "no record"),
        ('{"record": "Lens"}', "a Lens"),
        ("{}", "no whole"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(WorkbenchError, match=words):
            type(record).read(path)
    with pytest.raises(WorkbenchError, match="cannot be written"):
        record.save(tmp_path / "nowhere" / "direct.json")


def test_the_list_of_names_is_written_once():
    from workbench.stub import PATH, stub

    assert PATH.read_text(encoding="utf-8") == stub(), "run python -m workbench.stub"
    assert dir(wb) == list(wb.__all__) == sorted(vars(wb)["_HOMES"])
    with pytest.raises(AttributeError, match="no attribute 'finetune'"):
        cast("Any", wb).finetune  # noqa: B018


def test_records_and_names_cost_no_model_library():
    code = (
        "import sys, workbench, workbench.records, workbench.public; "
        "print('torch' in sys.modules, dir(workbench)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "Canary"]


def test_all_records_of_the_package_are_dataclasses_with_a_table():
    import workbench.comparison
    import workbench.interp  # noqa: F401

    for kind in Record.__subclasses__():
        assert is_dataclass(kind) and kind.to_frame is not Record.to_frame, kind
        assert kind.__repr__ is Record.__repr__, kind
