"""Fine-tuning: rendering, masks, answers and metrics by hand-worked numbers, and whole runs on a
tiny model.
"""

import json
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, PreTrainedModel

import workbench as wb
from tests.conftest import tiny_gpt, written_by
from workbench.comparison import behaviour_series
from workbench.comparison.lineage import fine_tune_of
from workbench.comparison.measures import measure_of
from workbench.data import entities
from workbench.data.leftout import LeftOutError
from workbench.errors import WorkbenchError
from workbench.statistics import paired_counts
from workbench.store import Store
from workbench.subjects.save import save
from workbench.subjects.tokenizer import train_tokenizer
from workbench.training import Recipe, evaluation, finetune
from workbench.training.cost import cost
from workbench.training.decode import complete, trie
from workbench.training.lora import Lora, adapt
from workbench.training.rows import Row, Segment, check_vocabulary, collate, encode
from workbench.training.tasks import KINDS, SETS, chat, make, questions
from workbench.training.tasks.classification import class_counts, macro_f1

ANIMALS = {"cat": "small", "dog": "small", "horse": "big", "cow": "big"}
PETS = [
    {"text": f"the {name} number {i}", "label": ANIMALS[name]}
    for i in range(30)
    for name in ANIMALS
]
TALK = [
    {"instruction": f"Say {i}", "input": "", "output": f"the cat number {i}"} for i in range(40)
]
TEXTS = [p["text"] + "\nLabel: " + p["label"] for p in PETS] + [
    "User: Say red\nAssistant: red red. = person none ;"
]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """A small untrained GPT in a folder, with a tokenizer of the animals' words."""
    folder = tmp_path_factory.mktemp("base") / "zoo"
    tokenizer = train_tokenizer(TEXTS, d_vocab=330)
    model = tiny_gpt(
        d_vocab=len(tokenizer), n_ctx=96, bos_token_id=0, eos_token_id=0, initializer_range=0.1
    )
    return str(save(folder, model, tokenizer))


def write(path, rows) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def recipe(base: str, data: str, lora=None, task=None, **train) -> Recipe:
    settings = {
        "steps": 60,
        "batch_size": 8,
        "lr": 2e-2,
        "warmup": 5,
        "optimizer": "adamw",
        "precision": "no",
    }
    return Recipe.from_dict(
        {
            "title": "tuned",
            "kind": "finetune",
            "base": base,
            "task": {"data": data, **(task or {})},
            "lora": lora,
            "corpus": {"validation": 0.3},
            "train": {**settings, "eval_every": 30, "checkpoint_every": 30, **train},
        }
    )


# -- rows ------------------------------------------------------------------------------------------


def test_the_loss_is_on_what_is_learned_only(tiny):
    row = encode(
        tiny.tokenizer, [Segment("1 2 9", False), Segment("5 6", True), Segment("7", False)]
    )
    assert row == Row([1, 2, 9, 5, 6, 7], [False, False, False, True, True, False])
    assert row.prompt == [1, 2, 9] and row.n_learned == 2
    inputs, targets = collate([row, Row([3, 4], [False, True])])
    assert inputs.tolist() == [[1, 2, 9, 5, 6], [3, 0, 0, 0, 0]]
    assert targets.tolist() == [[-100, -100, 5, 6, -100], [4, -100, -100, -100, -100]]


def test_only_the_assistants_turns_of_a_conversation_are_learned(base):
    tokenizer = wb.load(base).tokenizer
    turns = ["Say red", "red red.", "Say it", "red."]
    talk = [
        {"role": r, "content": t} for r, t in zip(("user", "assistant") * 2, turns, strict=True)
    ]
    task = make({"kind": "chat", "data": "instruct_1100"})
    row = task.row(tokenizer, {"messages": talk})
    learned = [i for i, on in zip(*row, strict=True) if on]
    assert tokenizer.decode(learned) == "red red.<|endoftext|>red.<|endoftext|>"
    assert str(tokenizer.decode(row.ids)).startswith(
        "User: Say red\nAssistant: red red.<|endoftext|>\nUser: Say it\n"
    )


def test_a_template_that_rewrites_earlier_turns_is_refused(base):
    tokenizer = wb.load(base).tokenizer
    tokenizer.chat_template = (
        "{{ messages|length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    talk = [{"role": r, "content": "red"} for r in ("user", "assistant") * 2]
    with pytest.raises(WorkbenchError, match="rewrites earlier turns"):
        chat.segments(tokenizer, talk)


def test_a_vocabulary_that_does_not_fit_is_named(base):
    letters = train_tokenizer(["abc d"], "char")
    with pytest.raises(WorkbenchError, match="vocabulary of letters cannot spell the answer"):
        check_vocabulary(
            [encode(letters, [Segment("ab", False), Segment("xyz", True)])], letters, 9, "letters"
        )
    check_vocabulary(
        [encode(letters, [Segment("ab", False), Segment("c", True)], end=True)],
        letters,
        9,
        "letters",
    )
    with pytest.raises(WorkbenchError, match="gives token 4, and the model knows 4 tokens"):
        check_vocabulary([Row([1, 4], [False, True])], letters, 4, "letters")


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_every_known_set_can_be_read_offline(name):
    try:
        data = make({"data": name}).read(0.1, seed=0)
    except WorkbenchError as error:
        if "WORKBENCH_DATA" in str(error):
            pytest.skip(f"needs {name} below WORKBENCH_DATA")
        raise
    assert len(data.train) > 500 and len(data.held_out) > 50


def test_what_is_held_out_shares_no_text_with_the_training_data(tmp_path):
    rows = [{"context": f"c {i // 3}", "question": f"q {i}", "answers": ["x"]} for i in range(90)]
    data = make({"kind": "questions", "data": write(tmp_path / "q.jsonl", rows)}).read(0.3, seed=0)
    train, held = ({item["context"] for item in items} for items in (data.train, data.held_out))
    assert train and held and not train & held and len(data.train) + len(data.held_out) == 90


def test_training_examples_that_stand_in_the_test_set_are_left_out(tmp_path):
    test = write(tmp_path / "test.jsonl", PETS[:8])
    data = make({"data": write(tmp_path / "all.jsonl", PETS), "test": test}).read(0.1, seed=0)
    assert data.left_out == {"also in the test set": 8} and len(data.held_out) == 8


def test_conversations_come_in_many_spellings():
    task = make({"kind": "chat", "data": "instruct_1100"})
    one = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    alpaca = "Below is an instruction.\n\n### Instruction:\nhi\n\n### Response:\n"
    for record in (
        {"messages": [*one, {"role": "user", "content": "thanks"}]},
        {"turns": [["USER", "hi"], ["SYSTEM", "yes"]]},
        {"turns": {"speaker": [0, 1], "utterance": ["hi", "yes"]}},
        {"instruction": "hi", "input": "", "output": "yes"},
        {"prompt": alpaca, "response": "yes"},
    ):
        assert task.item(record) == {"messages": one}, record
    with pytest.raises(LeftOutError, match="no user turn with a reply"):
        task.item({"messages": one[:1]})


# -- answers and metrics ---------------------------------------------------------------------------


def test_a_restricted_answer_is_one_of_the_answers(tiny):
    tiny.tokenizer.pad_token = "0"
    answers = [[5, 6], [5, 7, 8], [9]]
    written = complete(
        tiny.model, tiny.tokenizer, [[1], [2, 3], [4, 4, 4]], most=3, answers=trie(answers)
    )
    assert all(any(ids[: len(a)] == a for a in answers) for ids in written)


@pytest.mark.parametrize("stops", [(), (3, 40, 77)])
@pytest.mark.parametrize("answers", [None, [[5, 6], [5, 7, 8, 0], [9]]])
def test_answers_are_what_transformers_generates_greedily(tiny, stops, answers):
    ends = [0, *stops]
    tree = trie(answers or [])
    tiny.tokenizer.pad_token = tiny.tokenizer.eos_token = "0"
    draw = torch.Generator().manual_seed(1)
    prompts = [torch.randint(1, 100, (n,), generator=draw).tolist() for n in (1, 2, 5, 5, 9, 30)]

    def allowed(_, row):
        node = tree
        for token in row.tolist()[n_prompt:]:
            node = node.get(token, {})
        return list(node) or [0]

    expected = []
    for prompt in prompts:
        n_prompt = len(prompt)
        settings = GenerationConfig(
            max_new_tokens=6, do_sample=False, eos_token_id=ends, pad_token_id=0
        )
        limit = None if answers is None else allowed
        out = written_by(
            tiny.model,
            torch.tensor([prompt]),
            generation_config=settings,
            prefix_allowed_tokens_fn=limit,
        )
        ids = out[0, n_prompt:].tolist()
        expected.append(next((ids[:i] for i, token in enumerate(ids) if token in ends), ids))
    shares = []
    given = None if answers is None else tree
    written = complete(
        tiny.model,
        tiny.tokenizer,
        prompts,
        most=6,
        answers=given,
        stops=stops,
        progress=shares.append,
    )
    assert written == expected and shares == sorted(shares) and shares[-1] == 1.0


def test_an_answer_takes_the_room_that_the_context_has_and_changes_nothing_of_the_model(tiny):
    tiny.model.requires_grad_(True)
    written = complete(tiny.model, tiny.tokenizer, [[1] * 60, [1] * 64], most=20)
    assert list(map(len, written)) == [5, 1]
    assert all(weight.requires_grad for weight in tiny.model.parameters())
    with pytest.raises(WorkbenchError, match="context"):
        complete(tiny.model, tiny.tokenizer, [[1] * 65], most=1)


def test_padding_does_not_change_an_answer(tiny):
    tiny.tokenizer.pad_token = "0"
    prompts = [[1, 2, 3, 4, 5, 6], [7], [8, 9]]
    alone = [complete(tiny.model, tiny.tokenizer, [p], most=5)[0] for p in prompts]
    assert complete(tiny.model, tiny.tokenizer, prompts, most=5) == alone


def test_macro_f1_is_scikit_learns():
    from sklearn.metrics import f1_score

    right = list("aabbccca")
    predicted = list("abbbccaz")
    counts = class_counts(right, predicted, "abc")
    zero: Any = 0  # scikit-learn's stub takes words alone
    expected = f1_score(right, predicted, average="macro", labels=list("abc"), zero_division=zero)
    assert macro_f1(counts.sum(0)) == pytest.approx(expected)
    # One class always right, one never named.
    assert macro_f1(np.array([1.0, 0, 0, 0, 0, 3])) == 0.5
    assert macro_f1(np.array([1.0, 0, 0, 5, 0, 0])) == 1.0  # no item is of the second class


def test_entities_are_listed_and_found_again():
    words = "Anna met Anna Lind of New York in York .".split()
    spans = [("person", 0, 0), ("person", 2, 3), ("location", 5, 6), ("location", 8, 8)]
    text = "Anna = person; Anna Lind = person; New York = location; York = location"
    assert entities.listed(words, spans) == text
    assert entities.aligned(words, text) == (entities.bio(spans, len(words)), 0)
    assert entities.aligned(words, "none") == (["O"] * len(words), 0)
    tags, unaligned = entities.aligned(
        words, "Oslo = location; nonsense; New York = location; York = location"
    )
    assert unaligned == 2 and entities.spans(tags) == [("location", 5, 6), ("location", 8, 8)]


def test_entity_f1_is_seqevals():
    from seqeval.metrics import f1_score

    right = [["B-LOC", "I-LOC", "O"], ["B-PER", "O", "B-LOC"], ["O", "O", "O"]]
    predicted = [["B-LOC", "I-LOC", "O"], ["B-LOC", "O", "O"], ["O", "B-PER", "O"]]
    counts = [
        entities.span_counts(entities.spans(a), entities.spans(b))
        for a, b in zip(right, predicted, strict=True)
    ]
    assert counts == [(1, 0, 0), (0, 1, 2), (0, 1, 0)]
    assert (
        entities.entity_f1(np.array(counts).sum(0))
        == pytest.approx(f1_score(right, predicted))
        == pytest.approx(1 / 3)
    )


@pytest.mark.parametrize(
    ("predicted", "right", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0),
        # One of three words right, the only one asked for: 2 * 1 / (3 + 1).
        ("in Paris, France", "Paris", 0.5),
        ("red red", "red", 2 / 3),
        ("", "red", 0.0),
        ("the", "a", 1.0),  # both are empty once articles are gone, as in SQuAD's script
    ],
)
def test_token_f1_is_squads(predicted, right, f1):
    assert questions.token_f1(predicted, right) == pytest.approx(f1)


def test_paired_counts_by_hand():
    base = np.array([[1.0, 0, 1], [0, 1, 1], [1, 0, 0]] * 2)
    same = paired_counts(base, base, entities.entity_f1)
    assert (same.difference, same.p) == (0, 1) and np.isnan(same.low) and "too alike" in same.reason
    better = paired_counts(
        np.tile([0.0, 1, 1], (30, 1)), np.tile([1.0, 0, 0], (30, 1)), entities.entity_f1
    )
    assert (better.base, better.tuned) == (0, 1) and better.p < 0.001
    few = paired_counts(np.array([[0.0, 1, 1]]), np.array([[1.0, 0, 0]]), entities.entity_f1)
    assert np.isnan(few.p) and few.reason  # one sample tests nothing


def test_chat_loss_is_the_mean_over_learned_tokens(tiny):
    rows = [Row([1, 2, 3, 4], [False, False, True, True]), Row([5, 6], [False, True])]
    logits = tiny.model(torch.tensor([[1, 2, 3, 4]])).logits[0].log_softmax(-1)
    expected = [-(logits[1, 3] + logits[2, 4]).item() / 2]
    expected.append(-tiny.model(torch.tensor([[5, 6]])).logits[0, 0].log_softmax(-1)[6].item())
    assert chat.token_losses(tiny.model, rows) == pytest.approx(expected, rel=1e-5)


# -- LoRA ------------------------------------------------------------------------------------------


def test_a_merged_adapter_computes_what_the_adapter_computed(base, tmp_path):
    subject = wb.load(base)
    ids = torch.randint(0, subject.card.d_vocab, (2, 12))
    before = subject.model(ids).logits
    model = adapt(subject, Lora(r=4), base)
    assert torch.equal(model(ids).logits, before)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0, 0.1)
    model.eval()
    adapted = model(ids).logits
    folder = save(tmp_path / "adapter", cast("PreTrainedModel", model), subject.tokenizer)
    tensors = load_file(folder / "adapter_model.safetensors")
    assert (
        tensors
        and all("lora_" in name for name in tensors)
        and not (folder / "model.safetensors").exists()
    )
    merged = wb.load(folder)
    torch.testing.assert_close(merged.model(ids).logits, adapted, atol=1e-5, rtol=1e-4)
    assert (adapted - before).abs().max() > 0.01 and merged.card.parent == base
    assert (
        merged.card.architecture == subject.card.architecture
        and merged.card.n_params == subject.card.n_params
    )


def test_an_adapter_whose_base_has_changed_is_refused(base, tmp_path):
    subject = wb.load(base)
    adapted = cast("PreTrainedModel", adapt(subject, Lora(), base))
    folder = save(tmp_path / "adapter", adapted, subject.tokenizer)
    (folder / "base.json").write_text(json.dumps({"name": "shelf-base", "sha256": "0" * 64}))
    with pytest.raises(WorkbenchError, match="belongs to shelf-base as it was"):
        wb.load(folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(WorkbenchError, match="has no adapter_model"):
        wb.load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 4}, r"\[lora\] does not know rank; it knows alpha, dropout, r, targets"),
        ({"r": 0}, "r is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"targets": ["nowhere"]}, "cannot be adapted"),
    ],
)
def test_a_wrong_lora_table_names_the_word(base, values, message):
    with pytest.raises(WorkbenchError, match=message):
        adapt(wb.load(base), Lora.from_dict(values), base)


# -- runs ------------------------------------------------------------------------------------------


def test_a_lora_run_improves_and_every_room_can_load_it(base, tmp_path):
    data = write(tmp_path / "pets.jsonl", PETS)
    run = wb.train(recipe(base, data, lora={"r": 8}))
    result = run.result
    assert run.status == "done" and run.parent == base and result is not None
    accuracy, f1 = (evaluation.Change(**change) for change in result["changes"])
    assert (accuracy.metric, f1.metric) == ("accuracy", "macro_f1")
    assert accuracy.tuned > accuracy.base and accuracy.improved and accuracy.n == result["held_out"]
    before = evaluation.answers(run.folder, "base")
    after = evaluation.answers(run.folder, "tuned")
    assert before is not None and after is not None
    assert [frame["score"].mean() for frame in (before, after)] == pytest.approx(
        [accuracy.base, accuracy.tuned]
    )
    assert set(after["prediction"]) <= {"small", "big"}
    subject = wb.load(f"run:{run.id}")
    assert (
        result["parent"] == subject.card.parent == base
        and result["parent_sha256"] == wb.load(base).hash
    )
    priced = cost(recipe(base, data, lora={"r": 8}))
    assert priced.trained_parameters == result["trained_parameters"] < subject.card.n_params / 2
    measure = measure_of(wb.load(base), f"run:{run.id}", n=8)
    texts = [subject.tokenizer.decode([*r.inputs, r.targets[-1]]) for r in measure.requests]
    assert texts == [f"{row['input']} {row['target']}" for _, row in before.head(8).iterrows()]
    located = wb.locate(base, subject, f"run:{run.id}", n=8, grain="layers", draws=1)
    assert (
        located.gain().low > 0
        and not any(located.checks.values())
        and located.measure == fine_tune_of(f"run:{run.id}@60")
    )
    over = behaviour_series(run.id, n=8).set_index(["step", "metric"])
    own = located.gain()
    assert over.loc[0, "difference"].tolist() == [0, 0] and set(over.index.get_level_values(0)) == {
        0,
        30,
        60,
    }
    last = over.loc[60, "loglikelihood"]
    assert (last["value"], last["difference"], last["d_low"]) == pytest.approx(
        (own.tuned, own.difference, own.low)
    )
    exported = save(
        tmp_path / "whole", subject.model, subject.tokenizer, card=subject.card.to_dict()
    )
    ids = subject.encode("the cat number 3\nLabel:")
    assert torch.equal(wb.load(exported).model(ids).logits, subject.model(ids).logits)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_lora_run_that_is_taken_up_again_ends_as_if_it_had_never_stopped(
    base, tmp_path, optimizer
):
    data = write(tmp_path / "pets.jsonl", PETS)
    whole = wb.train(
        recipe(
            base, data, lora={"r": 4}, optimizer=optimizer, decay=0.0, steps=8, checkpoint_every=4
        )
    )
    store = Store()
    with store.record("finetune", "two halves", {}) as tracker:
        for steps in (4, 8):
            (tracker.folder / "evaluation" / "tuned.parquet").unlink(missing_ok=True)
            half = recipe(
                base,
                data,
                lora={"r": 4},
                optimizer=optimizer,
                decay=0.0,
                steps=steps,
                checkpoint_every=4,
            )
            finetune.run_recipe(half.to_dict(), tracker)
    losses = [
        store.metrics(i).query("name == 'loss'").set_index("step")["value"]
        for i in (whole.id, tracker.run_id)
    ]
    assert losses[0].to_dict() == losses[1].to_dict()


def test_a_chat_run_gives_a_base_without_a_template_one(base, tmp_path):
    run = wb.train(
        recipe(base, write(tmp_path / "talk.jsonl", TALK), task={"kind": "chat"}, lr=3e-3)
    )
    assert run.result is not None
    loss = evaluation.Change(**run.result["changes"][0])
    assert loss.metric == "loss" and loss.tuned < loss.base and not loss.higher_is_better
    assert "Assistant: " in wb.load(f"run:{run.id}").tokenizer.chat_template
    measure = measure_of(untouched := wb.load(base), f"run:{run.id}", n=4)
    subject = wb.load(f"run:{run.id}")
    assert untouched.tokenizer.chat_template is None  # a measure changes no model's tokenizer
    targets = [subject.tokenizer.decode(answer) for _, answer in measure.questions()]
    frame = evaluation.answers(run.folder, "base")
    assert frame is not None
    assert targets == frame["target"].head(4).tolist()
    assert np.average(frame["score"], weights=frame["tokens"]) == pytest.approx(loss.base)


def test_a_childs_parent_is_the_run_it_came_from(base, tmp_path):
    data = write(tmp_path / "pets.jsonl", PETS)
    first = wb.train(recipe(base, data, steps=2))
    second = wb.train(recipe(f"run:{first.id}", data, lora={}, steps=2))
    assert second.parent == first.id and second.result is not None
    assert second.result["parent"] == f"run:{first.id}@2"
    assert wb.load(f"run:{second.id}").card.parent == f"run:{first.id}@2"


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_set_says_so(tmp_path, kind):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(WorkbenchError, match=r"empty.jsonl \(train\) is empty"):
        make({"kind": kind, "data": str(tmp_path / "empty.jsonl")}).read(0.1, 0)


@pytest.mark.parametrize(
    ("rows", "task", "message"),
    [
        (
            PETS,
            {"labels": ["small"]},
            "The label 'big' of the training examples .* is not among the labels of",
        ),
        (PETS[:1] * 9, {}, "has 1 example of its own|one label only"),
        (
            [{"text": "x"}],
            {},
            "no column that is plainly the label; its columns are text. Name them",
        ),
        ([{"tokens": ["a"], "tags": []}] * 2, {"kind": "entities"}, "1 words and 0 tags"),
        (
            [{"tokens": ["a", str(i)], "tags": ["O", "O"]} for i in range(9)],
            {"kind": "entities"},
            "name no entity",
        ),
        (
            [{"turns": [["X", "hi"]]}],
            {"kind": "chat"},
            r"no example for chat: an unknown speaker \('X'\): 1",
        ),
        (
            [{"context": "x", "question": "y"}],
            {"kind": "questions"},
            "no column that is plainly the answers",
        ),
        (PETS, {"prompt": "{words}"}, "cannot be filled in"),
        (PETS, {"prompt": "Label:"}, r"lacks \{text\}"),
        (
            PETS,
            {"max_length": 3},
            "All .* training examples of .* are longer than 3 tokens; raise max_length",
        ),
        (PETS, {"max_length": "long"}, "max_length is 'long'"),
        (
            PETS,
            {"colour": 1},
            r"^\[task\] does not know colour; it knows answers, context, data, eval_items, kind, "
            r"label, labels, max_length, messages, prompt, question, response, source, tags, "
            r"target, test, text, tokens\.$",
        ),
        (PETS, {"kind": "poetry"}, "kind is 'poetry'; it must be classification"),
    ],
)
def test_a_task_that_cannot_be_done_says_why(base, tmp_path, rows, task, message):
    with pytest.raises(WorkbenchError, match=message):
        wb.train(recipe(base, write(tmp_path / "rows.jsonl", rows), task=task, steps=1))


def test_a_held_out_label_that_was_never_learned_is_named(base, tmp_path):
    train = write(tmp_path / "a.jsonl", PETS)
    test = write(tmp_path / "b.jsonl", [{"text": "ant", "label": "tiny"}])
    with pytest.raises(
        WorkbenchError,
        match=r"The label 'tiny' of the held-out examples .* 2 labels of the training",
    ):
        wb.train(recipe(base, train, task={"test": test}))


def test_too_long_examples_are_counted(base, tmp_path):
    long = [{"text": "the cat number 7 " * 20, "label": "small"}]
    run = wb.train(recipe(base, write(tmp_path / "p.jsonl", PETS), steps=1))
    more = wb.train(recipe(base, write(tmp_path / "q.jsonl", PETS + long), steps=1))
    assert run.result is not None and more.result is not None
    assert run.result["left_out"] == {} and set(more.result["left_out"].values()) == {1}


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path):
    for name, content, message in (
        ("x.jsonl", b'{"text": ', "line 1, is not JSON"),
        ("x.json", b'["a", 1]', "record 2, holds a number, not a record"),
        ("x.tsv", b"a\tb\tc\n", "no column that is plainly the text; its columns are 1, 2, 3"),
        ("x.csv", b"\xff\xfe\x00", "not utf-16.* text throughout"),
        ("x.conll", b"word\n", "a word and no tag"),
        ("x.pkl", b"", "is no .csv"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WorkbenchError, match=message):
            make({"kind": "classification", "data": str(tmp_path / name)}).read(0.1, 0)


def test_a_table_of_a_users_own_gives_the_same_as_lines(tmp_path):
    pd.DataFrame(PETS).to_parquet(tmp_path / "p.parquet")
    pd.DataFrame(PETS).to_csv(tmp_path / "p.csv", index=False)
    data = [make({"data": str(tmp_path / n)}).read(0.2, 0) for n in ("p.parquet", "p.csv")]
    assert data[0] == data[1] and len(data[0].train) + len(data[0].held_out) == len(PETS)


def test_a_verdict_says_whether_the_difference_is_shown():
    from workbench.ui.views.train_outcome import verdict

    loss, f1 = (
        {"metric": m, "higher_is_better": better}
        for m, better in (("loss", False), ("entity_f1", True))
    )
    change = evaluation.Change(
        3.0, 2.0, -1.0, -1.2, -0.8, 0.0001, 50, "sign-flip permutation", **loss
    )
    assert change.improved and "3.000 → 2.000: **better** by 1.000" in verdict(change)
    unsure = evaluation.Change(0.1, 0.2, 0.1, -0.1, 0.3, 0.4, 50, "approximate randomisation", **f1)
    assert (
        not unsure.shown
        and "no significant difference" in verdict(unsure)
        and "[−0.100, +0.300]" in verdict(unsure)
    )
