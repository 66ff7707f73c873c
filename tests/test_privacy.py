"""Privacy: planted data of every kind are found, near misses are not; a record shows no datum."""

import json
import random
import re
from collections.abc import Callable, Sequence

import pytest

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.privacy import stream
from workbench.privacy.kind import Kind
from workbench.privacy.kinds import KINDS, matches
from workbench.privacy.measured import FILE, measure
from workbench.privacy.redacted import write_redacted
from workbench.privacy.scan import Scan
from workbench.privacy.stream import Part, rewritten, search

pytestmark = pytest.mark.quick

ALL = tuple(KINDS.values())
RANDOM = "aB3dE6gH1jK4mN7pQ0sT2vW5yZ8cF9hJ4kL6"
"""36 characters. Secrets are assembled here, so that no scanner takes this file for a leak."""
KEY = "-----BEGIN RSA " + "PRIVATE KEY-----\n"
TRUE = {
    "email": ["jane.doe@example.org", "o'brien+x@mail.example.co.uk", "jörg@müller.de"],
    "phone": [
        *("+44 20 7946 0958", "(415) 555-2671", "415-555-2671"),
        *("0490 75 40 81", "+49 30 901820", "415.555.2671 x12"),
    ],
    "card": [
        *("4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"),
        *("3782 822463 10005", "4111 1111\n1111 1111", "6011111111111117"),
    ],
    "iban": ["GB82WEST12345698765432", "GB82 WEST 1234 5698 7654 32", "de89370400440532013000"],
    "national_id": [
        *("536-90-4399", "12345678Z", "RSSMRA85T10A562S", "390.533.447-05", "811228-9874"),
        *("131052-308T", "85.07.30-033.28", "756.9217.0769.85", "JG 10 37 59 A"),
    ],
    "ip": ["192.168.10.7", "8.8.8.8", "2001:db8::8a2e:370:7334", "fe80::1ff:fe23:4567:890a"],
    "mac": ["00:1B:44:11:3A:B7", "00-1b-44-11-3a-b7", "001b.4411.3ab7"],
    "url_credentials": ["https://ann:pa55word@example.com", "redis://:hunter22@10.0.0.3:6379"],
    "api_key": [
        *("AKIA" + "Z7QW3ERTY2UI5OPA", "ghp_" + RANDOM, "hf_" + RANDOM[:34].replace("0", "x")),
        *("sk-ant-" + RANDOM, "xoxb-" + "123456789012-" + RANDOM[:20], "sk_live_" + RANDOM[:24]),
    ],
    "private_key": [KEY + f"{RANDOM}\n{RANDOM}\n" + KEY.strip().replace("BEGIN", "END")],
    "jwt": ["eyJ" + f"{RANDOM}.eyJ{RANDOM}.{RANDOM}"],
}
"""True values of each kind, as a text may hold them."""
FALSE = {
    "email": ["jane@localhost", "@handle", "a@b", "x..y@example.org", "me@example.o1"],
    "phone": ["+1 555", "2000-04-16 11:34", "415-055-2671", "12/10/1998", "123456789012345678"],
    "card": [
        *("4111111111111112", "4111 1111 1111 1112", "0000000000000000", "9111111111111111"),
        *("14111111111111111", "4111111111111111.5"),
    ],
    "iban": ["GB83WEST12345698765432", "GB82WEST1234569876543", "ZZ82WEST12345698765432"],
    "national_id": [
        *("000-12-3456", "666-12-3456", "12345678A", "RSSMRA85T10A562T", "390.533.447-06"),
        *("811228-9875", "BG 10 37 59 A"),
    ],
    "ip": ["999.1.1.1", "1.2.3", "1.2.3.4.5", "127.0.0.1", "version 1.2.3.4", "a::b", "12:30:45"],
    "mac": ["00:1B:44:11:3A", "00:1B:44:11:3A:B7:00", "00:00:00:00:00:00", "00:1G:44:11:3A:B7"],
    "url_credentials": ["https://example.com", "https://example.com/a:b@c", "mailto:a@b.org"],
    "api_key": ["AKIA" + "A" * 16, "ghp_short", "sk-learn-is-a-python-module-for-people", "hf_hub"],
    "private_key": ["-----BEGIN PUBLIC KEY-----", "BEGIN RSA PRIVATE KEY"],
    "jwt": ["eyJhbGci", "eyJhbGci.only.two"],
    "secret": [
        *("password: required", "token = get_token()", 'key = "value"', "the key: understanding"),
    ],
}
"""Near misses: a wrong check digit, an impossible number, a form that means something else."""
FALSE["secret"] += ["max_tokens = 1000000", "secret = aaaaaaaaaaaaaaaa1"]
TRUE["secret"] = [RANDOM]


def texts_of(kind: str, value: str) -> str:
    """A text around a value; a secret needs the name that it is assigned to."""
    return f'api_key = "{value}"' if kind == "secret" else f"So: {value}, and more."


def matched(text: str, kinds: Sequence[Kind] = ALL) -> list[tuple[str, str]]:
    """The kind and the characters of every match in a text."""
    return [(m.kind.name, text[m.start : m.end]) for m in matches(text, kinds)]


def cases(values: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Every value with its kind."""
    return [(kind, value) for kind, several in values.items() for value in several]


@pytest.mark.parametrize(("kind", "value"), cases(TRUE))
def test_a_true_value_is_found_wherever_it_stands(kind, value):
    text = texts_of(kind, value)
    assert matched(text) == [(kind, value)]
    if kind != "secret":
        assert matched(value) == [(kind, value)]  # at the text's start and end
        assert matched(f"{value}\n") == [(kind, value)]
        assert matched(f"({value})") == [(kind, value)]


@pytest.mark.parametrize(("kind", "value"), cases(FALSE))
def test_a_near_miss_is_none(kind, value):
    assert kind not in dict(matched(f"So: {value}, and more.")), value


def test_other_digits_spaces_and_dashes_count_as_ours():
    wide = "4111111111111111".translate({48 + i: 0xFF10 + i for i in range(10)})
    arabic = "٤١٥-٥٥٥-٢٦٧١"
    assert dict(
        matched(f"x {wide}, {arabic}; 536\u201190\u20114399; 4111\u00a01111\u00a01111\u00a01111")
    ) == {
        "card": "4111\u00a01111\u00a01111\u00a01111",
        "phone": arabic,
        "national_id": "536\u201190\u20114399",
    }
    assert matched(wide) == [("card", wide)]


def test_of_matches_that_overlap_the_longest_wins_then_the_first_kind():
    text = "postgres://ann:s3cret@mail.example.org/db"
    assert matched(text) == [("url_credentials", "postgres://ann:s3cret@mail.example.org")]
    assert matched(text, (KINDS["email"],)) == [("email", "s3cret@mail.example.org")]
    token = TRUE["jwt"][0]
    assert matched(f"token = {token}") == [("jwt", token)]


LONG_OR_ASSIGNED = ("secret", "private_key")
"""Kinds that do not fit into the middle of a sentence."""


def planted(seed: int) -> tuple[str, list[tuple[str, int]]]:
    """A text with true values, some of them side by side; and the kind and place of each."""
    rng = random.Random(seed)
    values = [(kind, value) for kind, value in cases(TRUE) if kind not in LONG_OR_ASSIGNED]
    text = ""
    places = []
    for _ in range(60):
        n_words = rng.randrange(9)
        text += " ".join(rng.choice(["word", "of", "é", "–", "12"]) for _ in range(n_words))
        kind, value = rng.choice(values)
        text += " so: "
        places.append((kind, len(text)))
        text += value + rng.choice([", ", ".\n\n", "; ", "\n"])
    return text, places


@pytest.mark.parametrize("seed", range(6))
def test_pieces_lose_nothing_and_double_nothing(seed, monkeypatch):
    text, places = planted(seed)
    monkeypatch.setattr(stream, "OVERLAP", 400)
    assert [(h.kind.name, h.position) for h in search([Part(text, True)], ALL)] == places
    rng = random.Random(seed)
    for window in (1, 7, 50, 900):
        parts = []
        rest = text
        while rest:
            size = rng.randrange(1, 90)
            parts.append(Part(rest[:size], begins=not parts))
            rest = rest[size:]
        hits = list(search(parts, ALL, window=window))
        assert [(hit.kind.name, hit.position) for hit in hits] == places, window
        whole = "".join(rewritten([Part(text, True)], ALL))
        assert "".join(rewritten(parts, ALL, window=window)) == whole, window


def test_rows_do_not_run_into_each_other():
    halves = ["jane@exam", "ple.org and 4111 1111", "1111 1111"]
    assert sum(wb.scan(halves).counts.values()) == 0
    assert wb.redact(halves) == halves


@pytest.mark.parametrize("seed", range(6))
def test_redaction_is_idempotent_and_leaves_nothing(seed):
    text, places = planted(seed)
    (once,) = wb.redact([text])
    assert wb.redact([once]) == [once] and sum(wb.scan([once]).counts.values()) == 0
    assert sum(once.count(kind.placeholder) for kind in ALL) == len(places)
    glued = "".join(value for _, value in cases(TRUE))
    (once,) = wb.redact([glued])
    assert wb.redact([once]) == [once]


def test_the_record_holds_no_raw_value(tmp_path):
    values = cases(TRUE)
    texts = [texts_of(kind, value) for kind, value in values]
    result = wb.scan(texts)
    assert result.n == len(texts) and result.with_any == len(texts) and result.share == 1
    assert result.counts == {kind: len(TRUE[kind]) for kind in KINDS}
    written = json.dumps(json.loads(result.to_json()), ensure_ascii=False)
    for kind, value in values:
        assert value not in written, kind
        hidden = KINDS[kind].mask(value)
        assert value not in hidden and "•" in hidden
        runs = re.findall(r"[A-Za-z0-9]{7,}", value)
        assert not [run for run in runs if run in hidden], (kind, hidden)
    again = Scan.from_json(result.to_json())
    assert again.to_json() == result.to_json() and len(repr(result)) < 300
    assert {"found", "share"} <= set(result.to_frame()) and len(result.examples_frame())
    assert result.provenance is not None and result.provenance.function == "workbench.scan"
    assert result._repr_mimebundle_()


def test_documents_of_a_file_are_counted_as_training_cuts_them(tmp_path):
    paragraph = "A word and another word. " * 50 + "\n\n"
    path = tmp_path / "book.txt"
    path.write_text(paragraph * 10 + "Write to jane@example.org.\n", encoding="utf-8")
    result = wb.scan(path)
    assert (result.n, result.with_any, result.counts["email"]) == (6, 1, 1)
    (example,) = result.examples
    assert (example.document, example.position) == (5, len("Write to "))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "no"}\n{"text": "to jane@example.org"}\n', encoding="utf-8")
    result = wb.scan([path, rows], ["email"])
    assert result.n == 8 and [example.document for example in result.examples] == [5, 7]
    out = write_redacted(rows, tmp_path / "out.jsonl")
    assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == [
        "no",
        "to [EMAIL]",
    ]
    out = write_redacted(path, tmp_path / "out.txt")
    assert out.read_text() == path.read_text().replace("jane@example.org", "[EMAIL]")


def untyped(function: Callable[..., object]) -> Callable[..., object]:
    """The function as a caller without a type checker sees it, who may give it anything."""
    return function


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda folder: wb.scan(["x"], ["emial"]), "There is no kind 'emial' to look for; choose"),
        (lambda folder: wb.scan(["x"], []), "No kind is named"),
        (lambda folder: wb.scan([]), "list of texts is empty"),
        (lambda folder: wb.scan([" \n"]), "list of texts is empty"),
        (lambda folder: untyped(wb.scan)(3), "A value of type int cannot be scanned"),
        (lambda folder: untyped(wb.scan)(["x", 3]), "Item 1 of the list is a int"),
        (lambda folder: untyped(wb.redact)(["x", None]), "Item 1 of the list is a NoneType"),
        (lambda folder: wb.scan(folder / "nowhere.txt"), "No text found"),
        (lambda folder: wb.scan(folder / "empty.txt"), "is empty"),
        (lambda folder: wb.scan(folder / "binary.txt"), "is not text"),
        (lambda folder: wb.scan(folder / "table.csv", column="z"), "no column 'z'"),
    ],
)
def test_bad_input_is_one_sentence(call, words, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "table.csv").write_text("text,b\nhello,1\n")
    with pytest.raises(WorkbenchError, match=re.escape(words)):
        call(tmp_path)


def test_another_encoding_is_read_and_remarked(tmp_path):
    path = tmp_path / "old.txt"
    path.write_bytes("Schreib an jürgen@example.org".encode("utf-16"))
    result = wb.scan(path)
    assert result.counts["email"] == 1 and "UTF-16" in " ".join(result.remarks)
    path.write_bytes("Réponse à jane@example.org".encode("cp1252"))
    assert wb.scan(path).counts["email"] == 1


def test_precision_and_recall_are_what_the_findings_say():
    from workbench import paths

    data = paths.data_folder()
    if data is None or not (data / FILE).is_file():
        pytest.skip("presidio's labelled texts are not at hand")
    result = measure()
    assert result.n == 1500 and result.not_claimed["PERSON"] == 857
    findings = (paths.PACKAGE.parent / "docs" / "findings.md").read_text(encoding="utf-8")
    for kind in result.kinds:
        assert kind.precision >= 0.95 and kind.recall >= 0.8, kind
        row = (
            f"| {kind.kind} | {kind.precision:.3f} [{kind.precision_low:.3f}, "
            f"{kind.precision_high:.3f}] | {kind.recall:.3f} [{kind.recall_low:.3f}, "
            f"{kind.recall_high:.3f}] | {kind.detected + kind.missed} |"
        )
        assert row in findings, row


def command(*words: str):
    """What `workbench scan` prints and how it ends."""
    from typer.testing import CliRunner

    from workbench.cli.app import app

    return CliRunner().invoke(app, ["scan", *words])


def test_the_command_scans_and_redacts(tmp_path):
    path = tmp_path / "mail.txt"
    out = tmp_path / "clean.txt"
    path.write_text("Write to jane@example.org or to 192.168.10.7.\n")
    done = command(str(path), "--json", "--redact", str(out))
    record = json.loads(done.stdout)
    assert done.exit_code == 0 and record["counts"]["email"] == record["counts"]["ip"] == 1
    assert record["redacted"] == str(out) and "jane@" not in done.stdout
    assert out.read_text() == "Write to [EMAIL] or to [IP].\n"
    shown = command(str(path), "--kind", "email").stdout
    assert "j•••@•••••••.org" in shown and "MB/s" in shown and "192" not in shown
    assert isinstance(command().exception, WorkbenchError)
    assert "emial" in str(command(str(path), "--kind", "emial").exception)
