"""The generated grammar-rich text: right English, and free of what the suite `core` asks."""

import random
import re
from collections import Counter

import pytest

from workbench.benchmarks.documents import generated as core
from workbench.training.grammar import SHARES, grammar, letters, words
from workbench.training.grammar.expand import expand
from workbench.training.texts import documents

pytestmark = pytest.mark.quick

DOCUMENTS = grammar(3000, seed=1)
TEXT = "".join(DOCUMENTS)
ANY = dict.fromkeys(("noun", "thing", "one", "other", "giver", "place"), r"\w+") | {
    "gift": r"(?:an?|the) [\w ]+?"
}
PUBLISHED = (
    r"When \w+ and \w+ (went to|got)",
    r"\w+ (wanted|decided) to give",
    r"Friends \w+ and \w+ found",
    r"Then,? [A-Z]\w+ and [A-Z]\w+ (went|were|had)",
    r"[A-Z]\w+ and [A-Z]\w+ went to",
    r"[Ww]hile \w+ and \w+ were (working|commuting)",
    r"The \w+ [A-Z]\w+ and [A-Z]\w+ went",
)
"""Frames of published sets of indirect-object prompts."""


def test_the_same_seed_makes_the_same_documents_and_no_kind_is_missing():
    assert grammar(50, seed=3) == grammar(50, seed=3) != grammar(50, seed=4)
    assert grammar(3000, seed=1) == DOCUMENTS and len(set(DOCUMENTS)) > 2980
    assert abs(sum(SHARES.values()) - 1) < 1e-9
    for kind in SHARES:
        assert {kind(random.Random(i)) for i in range(30)}.isdisjoint({"", "\n"})


def test_the_corpus_takes_the_source_by_its_name_and_a_sample_tells_its_length():
    whole = list(documents(["grammar"]))
    assert whole[0] == grammar()[0]
    assert letters() == pytest.approx(sum(map(len, whole)), rel=0.04)


@pytest.mark.parametrize("frame", core.SCENES)
def test_no_frame_of_indirect_objects_is_in_the_text(frame):
    pattern = re.compile(frame.format_map(ANY).replace(". ", r"\. "))
    whole = frame.format(one="Ann", other="Bob", giver="Bob", place="park", gift="a book")
    assert pattern.fullmatch(whole), "the pattern must find its own frame"
    assert not pattern.search(TEXT)


@pytest.mark.parametrize("frame", PUBLISHED)
def test_no_frame_of_the_published_prompts_is_in_the_text(frame):
    assert not re.search(frame, TEXT)


@pytest.mark.parametrize("frame", core.FRAMES[1:])
def test_no_frame_of_agreement_is_in_the_text(frame):
    assert not re.search(frame.format_map(ANY), TEXT, re.IGNORECASE)


def test_the_nouns_asked_about_never_stand_bare_before_a_verb_asked_about():
    nouns = "|".join(noun for both in core.PEOPLE for noun in both)
    verbs = "|".join(verb for both in core.VERBS for verb in both)
    # In small letters they may be the noun between a subject and its verb.
    assert not re.search(rf"\bThe ({nouns}) ({verbs})\b", TEXT)
    assert words.RESERVED == {noun for both in core.PEOPLE for noun in both}


def test_no_item_of_the_suite_is_in_the_text():
    items = [item["query"] for item in (*core.ioi(), *core.repeat())]
    items += [f"{item['query']} {verb}" for item in core.agreement() for verb in item["choices"]]
    items += [text["text"][:60] for text in core.passage()]
    assert len(items) == 810
    assert not [item for item in items if item in TEXT]


def test_no_bare_row_of_words_is_said_twice():
    assert not re.search(r"\b((?:[a-z]+ ){5,})\1", TEXT)


def test_after_a_singular_noun_comes_a_singular_verb():
    forms = {"is": 0, "are": 1, "was": 0, "were": 1, "has": 0, "have": 1, "does": 0, "do": 1}
    number = {noun: i for pair in words.PEOPLE for i, noun in enumerate(pair.split("/"))}
    seen = Counter[bool]()
    # Bare subjects only, at the beginning of a sentence: what stands between needs a parser.
    for noun, verb in re.findall(r"(?:^|[.?] )(?:The|My|Our|Her|His) (\w+) (\w+)\b", TEXT):
        if noun in number and verb in forms:
            seen[number[noun] == forms[verb]] += 1
    assert seen[True] > 200 and not seen[False]


def test_across_a_phrase_the_verb_agrees_with_the_first_noun():
    number = {noun: i for pair in words.PEOPLE for i, noun in enumerate(pair.split("/"))}
    pattern = rf"The (\w+) (?:{'|'.join(w.replace('_', ' ') for w in words.INSIDE_SUBJECT)}) "
    pattern += r"(?:the|my|our) (\w+) (is|are|was|were|has|have)\b"
    things = {noun: i for pair in words.THINGS for i, noun in enumerate(pair.split("/"))}
    n_against = 0
    for noun, other, verb in re.findall(pattern, "".join(grammar(12000, seed=2))):
        if noun in number:
            assert number[noun] == (verb in ("are", "were", "have")), (noun, other, verb)
            n_against += other in things and things[other] != number[noun]
    assert n_against > 20


def test_the_receiver_is_the_one_who_does_not_give():
    gives = r"([A-Z]\w+) (?:gave|handed|passed|lent|sold) (?:a|an|the) \w+ to ([A-Z]\w+)"
    pairs = re.findall(gives, TEXT)
    assert len(pairs) > 300 and all(giver != receiver for giver, receiver in pairs)


def test_a_pattern_gives_every_choice_and_the_right_article():
    draw = random.Random(0)
    texts = {expand("a (red|(old|odd)) {thing}", draw, {"thing": "axe"}) for _ in range(50)}
    assert texts == {"a red axe", "an old axe", "an odd axe"}
    assert not re.search(r"[(){}|]|\ba [aeio]\w|\. A [aeio]\w", TEXT)
