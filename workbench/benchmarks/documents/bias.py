"""Documents on bias: stereotypes in sentence pairs, pronouns, answers, judgements and prompts.

The texts of these sets are offensive by design: they write down what a model should not prefer.
"""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple, NoReturn

from workbench.benchmarks.documents.records import Doc, MissingDataError, Source, records
from workbench.paths import data_folder

BBQ = (
    "Age",
    "Disability_status",
    "Nationality",
    "Physical_appearance",
    "Religion",
    "Sexual_orientation",
)
MEN = ("he", "him", "his", "himself")
PRONOUNS = (*MEN, "she", "her", "hers", "herself")
HUB = ("jannalu/crows_pairs_multilingual", "english", "test")


def pair(more: str, less: str, group: str, cluster: str | None = None) -> Doc:
    """Two sentences of which a biased model finds the first likelier.

    Args:
        more: The stereotyping sentence.
        less: The other one.
        group: Its category.
        cluster: What it shares with other pairs; None where it stands alone.
    """
    return {"query": "", "choices": [more, less], "gold": 0, "group": group, "cluster": cluster}


def rest(more: str, less: str, group: str) -> Doc | None:
    """The same two sentences, of which only what follows the one changed passage is scored.

    None where words are changed in several places, or where nothing follows.

    Args:
        more: The stereotyping sentence.
        less: The other one.
        group: Its category.
    """
    words = [more.split(), less.split()]
    changes = [
        change
        for change in SequenceMatcher(None, *words, autojunk=False).get_opcodes()
        if change[0] != "equal"
    ]
    if len(changes) != 1:
        return None
    ends = (changes[0][2], changes[0][4])
    shared = words[0][ends[0] :]
    starts = [" ".join(side[:end]) for side, end in zip(words, ends, strict=True)]
    if not shared or not all(starts):
        return None
    return {"choices": starts, "continuation": " ".join(shared), "gold": 0, "group": group}


def _crows(row: Doc) -> Doc:
    return pair(row["sent_more"], row["sent_less"], row["bias_type"])


def _crows_rest(row: Doc) -> Doc | None:
    return rest(row["sent_more"], row["sent_less"], row["bias_type"])


def _winogender(docs: list[Doc]) -> list[Doc]:
    """Sentence pairs that differ in an occupation's pronoun, its US majority gender first."""
    statistics = (data_folder() or Path()) / "winogender" / "occupations-stats.tsv"
    shares = {row["occupation"]: float(row["bls_pct_female"]) for row in records(statistics)}
    sentences = {doc["sentid"]: doc["sentence"] for doc in docs}
    pairs = []
    for key in sentences:
        occupation, _, answer, gender = key.split(".")[:4]
        if answer == "0" and gender == "male":
            both = [sentences[key], sentences[key.replace(".male.", ".female.")]]
            men = shares[occupation] < 50
            group = "mostly men" if men else "mostly women"
            pairs.append(pair(*(both if men else both[::-1]), group=group, cluster=occupation))
    return pairs


class _Line(NamedTuple):
    """A line of WinoBias: the sentence without brackets, who is meant, and the first pronoun."""

    text: str
    meant: str
    pronoun: str


def _winobias(_: list[Doc]) -> list[Doc]:
    """Sentence pairs that differ in one pronoun, the stereotypical gender first."""
    return [
        pair(pro.text, anti.text, f"{kind}, {_gender(pro)}", cluster)
        for kind, cluster, pro, anti in _both_sides()
        if pro.text != anti.text
    ]


def _resolution(_: list[Doc]) -> list[Doc]:
    """Whom a pronoun means, with the stereotypical pronoun and with the other one.

    The choices are right and wrong for the first, right and wrong for the second. Left out are
    sentences of which the list of occupations does not name exactly one other person.
    """
    folder = _folder("winobias")
    occupations = {
        line.strip().lower()
        for gender in ("male", "female")
        for line in _text(folder / f"{gender}_occupations.txt").splitlines()
        if line.strip()
    }
    docs = []
    for kind, cluster, pro, anti in _both_sides():
        sentence = pro.text.lower()
        known = [name for name in occupations if re.search(rf"\b{name}\b", sentence)]
        others = [name for name in known if name not in pro.meant.lower()]
        if len(others) == 1 and pro.meant.lower() == anti.meant.lower() and pro.text != anti.text:
            people = (pro.meant.lower(), f"the {others[0]}")
            choices = [
                f'{side.text} Here "{side.pronoun}" means {person}.'
                for side in (pro, anti)
                for person in people
            ]
            group = f"{kind}, {_gender(pro)}"
            doc = {"query": "", "choices": choices, "gold": 0, "group": group, "cluster": cluster}
            docs.append(doc)
    return docs


def _gender(line: _Line) -> str:
    return "mostly men" if line.pronoun.lower() in MEN else "mostly women"


def _both_sides() -> Iterator[tuple[str, str, _Line, _Line]]:
    """Type, cluster, the stereotypical and the other line, of WinoBias's test part."""
    folder = _folder("winobias")
    for kind in ("type1", "type2"):
        sides = [
            list(_lines(folder / f"{side}_stereotyped_{kind}.txt.test")) for side in ("pro", "anti")
        ]
        for number, (pro, anti) in enumerate(zip(*sides, strict=True)):
            # Consecutive lines come in pairs about the same two occupations.
            yield kind, f"{kind} {number // 2}", pro, anti


def _lines(path: Path) -> Iterator[_Line]:
    for line in _text(path).splitlines():
        if not line.strip():
            continue
        sentence = line.split(" ", 1)[1].strip()
        marked = re.findall(r"\[(.*?)\]", sentence)
        text = re.sub(r"[\[\]]", "", sentence)
        pronouns = [words for words in marked if words.lower() in PRONOUNS]
        people = [words for words in marked if words.lower() not in PRONOUNS]
        yield _Line(text, people[0] if people else "", pronouns[0] if pronouns else "")


def _text(path: Path) -> str:
    return next(iter(records(path)))["text"]


def _folder(name: str) -> Path:
    folder = data_folder()
    return folder / name if folder is not None else _absent(name)


def _absent(name: str) -> NoReturn:
    raise MissingDataError(f"needs the folder {name!r} in WORKBENCH_DATA.")


def _bbq(row: Doc) -> Doc:
    """A question with three answers: `about` is the stereotyped group's, `unknown` the third."""
    groups = {group.lower() for group in row["additional_metadata"]["stereotyped_groups"]}
    about = []
    unknown = []
    for number in range(3):
        known_as = {words.lower() for words in row["answer_info"][f"ans{number}"]}
        if "unknown" in known_as:
            unknown.append(number)
        elif known_as & groups:
            about.append(number)
    category = f"{row['category']}, {row['context_condition']}"
    return {
        "query": f"{row['context']} {row['question']}\nAnswer:",
        "choices": [row["ans0"], row["ans1"], row["ans2"]],
        "gold": int(row["label"]),
        "about": about[0] if len(about) == 1 else None,
        "unknown": unknown[0] if len(unknown) == 1 else None,
        "negative": row["question_polarity"] == "neg",
        "ambiguous": row["context_condition"] == "ambig",
        "group": category,
        "stratum": category,
        "cluster": f"{row['category']} {row['question_index']}",
    }


def _all_of_bbq(docs: list[Doc]) -> list[Doc]:
    """The documents of the first file, and of the other files that exist in the folder."""
    folder = _folder("bbq")
    files = [folder / f"{name}.jsonl{end}" for name in BBQ[1:] for end in ("", ".gz")]
    return docs + [_bbq(row) for path in files if path.is_file() for row in records(path)]


def _hatecheck(row: Doc) -> Doc:
    hateful = row["label_gold"] == "hateful"
    return {
        "query": f"Post: {row['test_case'].strip()}\nQuestion: Is this post hateful?\nAnswer:",
        "choices": ["no", "yes"],
        "gold": int(hateful),
        "group": row["functionality"],
        "stratum": row["functionality"],
        "cluster": f"template {row['templ_id']}",
    }


def _bold(row: Doc) -> Doc:
    """The first words of a Wikipedia article's sentence about a person, a job or a belief."""
    group = f"{row['domain']}, {row['group']}".replace("_", " ")
    return {"query": row["prompt"].strip(), "group": group, "stratum": group}


BIAS: dict[str, Source] = {
    "crows_pairs": Source("crows_pairs/crows_pairs.csv", _crows, HUB),
    "crows_pairs_rest": Source("crows_pairs/crows_pairs.csv", _crows_rest, HUB),
    "winogender": Source("winogender/all_sentences.tsv", whole=_winogender),
    "winobias": Source("winobias/pro_stereotyped_type1.txt.test", whole=_winobias),
    "winobias_resolution": Source("winobias/pro_stereotyped_type1.txt.test", whole=_resolution),
    "bbq": Source("bbq/Age.jsonl", _bbq, whole=_all_of_bbq),
    "hatecheck": Source("hatecheck/test_suite_cases.csv", _hatecheck),
    "bold": Source("bold/bold_prompts.jsonl", _bold),
}
