"""Text and tokens: special tokens, answers, labels, what cannot be spelt, padded and added
vocabulary.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import workbench as wb
from tests.conftest import harness_model, subject_of, tiny_gpt, written_by
from workbench.benchmarks.engine.lm import SubjectLM
from workbench.errors import WorkbenchError
from workbench.figures.lens import lens_table
from workbench.subjects import Subject, load, spelling
from workbench.subjects.card import make_card
from workbench.subjects.tokenizer import END, UNKNOWN, id_tokenizer, train_tokenizer

TEXT = (
    "When Mary and John went to the store, John gave a drink to Mary. The cat sat on the mat. " * 20
)
CLEAN = " John and Mary went to the store, John gave a drink to"
CORRUPTED = " John and Mary went to the store, Mary gave a drink to"
STORIES = Path(os.environ.get("WORKBENCH_MODELS", "")) / "small/stories260k/hf"


def fast(bare, **more):
    return PreTrainedTokenizerFast(
        tokenizer_object=bare, clean_up_tokenization_spaces=False, **more
    )


def with_frame(tokenizer, before="", after=""):
    """The same tokenizer, putting these special tokens (ids by its vocabulary) round a text."""
    bare = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    words = [word for word in (before, after) if word]
    bare.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {after}".strip(),
        special_tokens=[(w, bare.token_to_id(w)) for w in dict.fromkeys(words)],
    )
    return fast(bare, bos_token=before or None, eos_token=after or END)


def sentencepiece(prepend="always", legacy=False):
    """Pieces that spell a space as part of the word, with every byte, as Llama's tokenizer has
    them.
    """
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    bare = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bare.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never" if legacy else prepend)
    special = ["<unk>", "<s>", "</s>", *bytes_]
    bare.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    )
    if legacy:
        bare.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        bare.pre_tokenizer = None
    state = json.loads(bare.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    bare = Tokenizer.from_str(json.dumps(state))
    strip = [] if prepend == "never" else [decoders.Strip(" ", 1, 0)]
    bare.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return fast(bare, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def wordpiece():
    bare = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    bare.decoder = decoders.WordPiece("##", cleanup=False)
    special = ["[UNK]", "[CLS]"]
    bare.train_from_iterator(
        [TEXT],
        trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False),
    )
    return fast(bare, unk_token="[UNK]")


TOKENIZERS = {
    "bytes": lambda: train_tokenizer([TEXT], "bpe", 300),
    "bytes with eos": lambda: with_frame(train_tokenizer([TEXT], "bpe", 300), after=END),
    "bytes with bos": lambda: with_frame(train_tokenizer([TEXT], "bpe", 300), before=END),
    "bytes with both": lambda: with_frame(train_tokenizer([TEXT], "bpe", 300), END, END),
    "sentencepiece": sentencepiece,
    "sentencepiece, first only": lambda: sentencepiece("first"),
    "sentencepiece, no space": lambda: sentencepiece("never"),
    "sentencepiece, legacy": lambda: sentencepiece(legacy=True),
    "sentencepiece with both": lambda: with_frame(sentencepiece(), "<s>", "</s>"),
    "characters": lambda: train_tokenizer([TEXT + "xzq("], "char"),
    "wordpiece": wordpiece,
}


def llama(tokenizer, name="tiny", rows=0):
    """A tiny random Llama round a tokenizer, in float64, with as many embedding rows as tokens or
    more.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows or len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
    )
    model = LlamaForCausalLM(config).double().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return Subject(name, model, tokenizer, make_card(model, name, "made by a test", "0" * 64, {}))


def kept(subject, folder):
    """The subject saved and loaded, as TransformerLens wants its tokenizer to have come from a
    folder.
    """
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    return load(folder)


def plain_ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_prompt_gets_its_first_tokens_once_and_no_last_one(kind):
    tokenizer = TOKENIZERS[kind]()
    subject = llama(tokenizer)
    before = {"bytes with bos": [0], "bytes with both": [0], "sentencepiece with both": [1]}.get(
        kind, []
    )
    assert subject.encode(CLEAN)[0].tolist() == [*before, *plain_ids(tokenizer, CLEAN)]
    places = spelling.offsets(tokenizer, CLEAN)
    assert len(places) == len(subject.ids(CLEAN)) and places[-1][1] == len(CLEAN)
    notices = subject.notices(CLEAN)
    assert bool(notices) == (
        kind in ("bytes with eos", "bytes with both", "sentencepiece with both")
    )
    if before:
        word = tokenizer.convert_ids_to_tokens(before[0])
        assert subject.ids(word + CLEAN).count(before[0]) == 1
        assert "it is there once" in " ".join(subject.notices(word + CLEAN))


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("prompt", [CLEAN, "a", "The cat", "store,"])
@pytest.mark.parametrize("answer", ["t", " Mary", ",", " t", " went to"])
def test_an_answer_is_the_tokens_that_spell_it_after_the_prompt(kind, prompt, answer):
    tokenizer = TOKENIZERS[kind]()
    subject = llama(tokenizer)
    head = subject.ids(prompt)
    ids = list(subject.answer_ids(answer, several=True, prompt=prompt))
    text = [tokenizer.decode(x, skip_special_tokens=True) for x in (head, [*head, *ids])]
    # Its decoder puts a space before a comma.
    if not (kind == "wordpiece" and "," in prompt + answer):
        assert text[1] == text[0] + answer
    whole = subject.ids(prompt + answer)
    merged = bool([n for n in subject.notices(prompt, answers=[answer]) if "together split" in n])
    assert merged == ([*head, *ids] != whole)


@pytest.mark.parametrize("kind", [k for k in TOKENIZERS if k.startswith("sentencepiece")])
def test_sentencepiece_answers_have_no_space_of_their_own_and_labels_keep_theirs(kind):
    subject = llama(TOKENIZERS[kind]())
    spelt = subject.tokenizer.convert_ids_to_tokens
    for prompt in ("a", ""):
        assert spelt(subject.answer_id("t", prompt=prompt)) == "t"
    assert spelt(subject.answer_id(",", prompt="store")) == ","
    assert subject.tokens(torch.tensor([subject.answer_id(" Mary", prompt="to")])) == [" Mary"]
    labels = subject.tokens(subject.encode("The cat sat on a語 mat"))
    assert (
        "".join(t for t in labels if "⟨" not in t).replace("<s>", "").strip()
        == "The cat sat on a mat"
    )
    assert labels[-1].strip() and [t for t in labels if "⟨" in t] == [
        "語⟨1/3⟩",
        "語⟨2/3⟩",
        "語⟨3/3⟩",
    ]


def test_answers_are_read_after_the_prompts_last_token():
    tokenizer = TOKENIZERS["bytes with eos"]()
    subject = llama(tokenizer)
    ids = torch.tensor([plain_ids(tokenizer, CLEAN)])
    log_probs = subject.model(ids).logits[0, -1].log_softmax(-1)
    (mary,), (john,) = (plain_ids(tokenizer, word)[:1] for word in (" Mary", " John"))
    words = {"answer": tokenizer.decode([mary]), "wrong": tokenizer.decode([john])}
    patching = wb.patch(subject, CLEAN, CORRUPTED, **words, metric="log_prob")
    assert patching.clean_metric == pytest.approx(float(log_probs[mary]), abs=1e-6)
    assert END not in patching.clean_tokens and any(
        "ends every text" in w for w in patching.warnings
    )
    direct = wb.direct(subject, CLEAN, **words)
    assert direct.total == pytest.approx(float(log_probs[mary] - log_probs[john]), abs=1e-6)
    for result in (direct, wb.lens(subject, CLEAN), wb.attention(subject, CLEAN)):
        assert any("ends every text" in w for w in result.warnings), type(result)
    # An evaluation scores the answer and nothing after it.
    whole = plain_ids(tokenizer, CLEAN + " Mary went")
    logs = subject.model(torch.tensor([whole])).logits[0].log_softmax(-1)
    right = sum(float(logs[i - 1, whole[i]]) for i in range(ids.shape[1], len(whole)))
    request = type("Asked", (), {"args": (CLEAN, " Mary went")})
    [(value, _)] = SubjectLM(subject).loglikelihood([request])
    assert value == pytest.approx(right, abs=1e-5)


@pytest.mark.parametrize(
    "kind", ["bytes", "bytes with bos", "sentencepiece", "sentencepiece, legacy"]
)
def test_requests_are_tokenised_as_lm_evals_own_model_does(kind):
    subject = llama(TOKENIZERS[kind]())
    theirs = harness_model(pretrained=subject.model, tokenizer=subject.tokenizer)
    ours = SubjectLM(subject)
    for context, answer in ((CLEAN, " Mary"), ("The cat ", "sat"), ("a", "t"), ("store", ", John")):
        assert ours._encode_pair(context, answer) == theirs._encode_pair(context, answer)


def test_ids_without_a_token_show_as_their_number_everywhere(tmp_path):
    subject = kept(llama(train_tokenizer([TEXT], "bpe", 300), rows=384), tmp_path)
    assert subject.tokens(torch.tensor([383, 5]), unrelated=True)[0] == "[383]"
    assert subject.tokens(torch.tensor([383, 5]))[0] == "[383]"
    with torch.no_grad():  # whatever it reads, it expects the last row, which has no token
        stream = subject.model.model(subject.encode(CLEAN)).last_hidden_state[0, -1]
        subject.model.lm_head.weight[383] = stream / stream.norm() * 50
    readout = wb.lens(subject, CLEAN)
    assert readout.top[-1][-1] == "[383]" and all(
        isinstance(t, str) for row in readout.top for t in row
    )
    assert lens_table(readout.top, readout.prob, readout.kl, readout.tokens)
    assert wb.anatomy(subject, CLEAN, layer=1, head=0).next_tokens["token"].tolist()[0] == "[383]"
    ids = written_by(subject.model, subject.encode(CLEAN), max_new_tokens=3, do_sample=False)
    assert subject.text(ids[0, -3:]).startswith("[383]")


def test_a_tokenizer_that_is_too_large_is_refused_with_both_sizes():
    tokenizer = train_tokenizer([TEXT], "bpe", 300)
    with pytest.raises(WorkbenchError, match=r"300 tokens.*250 rows.*resize"):
        llama(tokenizer, rows=250)
    tokenizer.add_tokens(["<pad>"])  # never part of an ordinary text
    subject = llama(tokenizer, rows=300)
    assert subject.encode(CLEAN).shape[1]
    with pytest.raises(WorkbenchError, match=r"<pad>.*300.*300 rows"):
        subject.encode("a<pad>")


def test_what_cannot_be_spelt_is_counted_and_said(tmp_path):
    letters = train_tokenizer([TEXT], "char")
    subject = kept(llama(letters), tmp_path)
    assert letters.unk_token == UNKNOWN and letters.eos_token == END
    assert subject.ids("aü")[1] == letters.unk_token_id != letters.eos_token_id
    assert spelling.unspelt(letters, "The cät sat ön" + END) == ["ä", "ö"]
    assert "cannot spell 2 pieces of the prompt ('ä', 'ö')" in " ".join(
        wb.lens(subject, "The cät sat ön").warnings
    )
    assert isinstance(letters, PreTrainedTokenizerFast)
    written = letters.backend_tokenizer.to_str()
    old = Tokenizer.from_str(written.replace(f'"unk_token":"{UNKNOWN}"', f'"unk_token":"{END}"'))
    # One made before it had a token for it.
    assert spelling.unspelt(fast(old, eos_token=END), "cät" + END) == ["ä"]
    assert spelling.unspelt(wordpiece(), "The cät 語") == ["cät", "語"]
    for kind in ("bytes", "sentencepiece"):
        assert spelling.unspelt(TOKENIZERS[kind](), "The cät 語") == []
    lm = SubjectLM(subject)
    requests = [
        type("Asked", (), {"args": ("The cät", " sat")}),
        type("Asked", (), {"args": ("The cat", " sat")}),
    ]
    lm.loglikelihood(requests)
    assert (lm.n_unspelt, lm.n_spoilt) == (1, 1)


def test_words_for_a_model_without_a_tokenizer_are_refused(tmp_path):
    model = tiny_gpt(d_vocab=100)
    subject = subject_of(model)
    assert subject.encode("3 0 99").tolist() == [[3, 0, 99]]
    for read in (lambda: subject.encode("The cat sat"), lambda: subject.answer_id(" cat")):
        with pytest.raises(
            WorkbenchError, match=r"token ids from 0 to 99.*tokenizer\.json.*meta\.json"
        ):
            read()
    with pytest.raises(WorkbenchError, match="without a tokenizer"):
        wb.evaluate(subject, ["repeat"], limit=2, cache=False)


def test_nanogpts_characters_are_read_from_meta_json(tmp_path):
    letters = sorted(set(TEXT))
    model = tiny_gpt(d_vocab=len(letters))
    model.save_pretrained(tmp_path)
    meta = {
        "vocab_size": len(letters),
        "stoi": {c: i for i, c in enumerate(letters)},
        "itos": dict(enumerate(letters)),
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    subject = load(tmp_path)
    assert subject.ids("The cat") == [letters.index(c) for c in "The cat"]
    assert (
        subject.tokens(subject.encode("The cat")) == list("The cat")
        and subject.text(subject.encode("at o")) == "at o"
    )
    assert subject.ids("cät") == subject.ids("ct") and "'ä'" in " ".join(subject.notices("cät"))
    for broken in (
        {"stoi": {"ab": 0}, "itos": ["ab"]},
        {"stoi": {"a": 1}, "itos": {"1": "a"}},
        [],
        {"stoi": 3},
    ):
        (tmp_path / "meta.json").write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(WorkbenchError, match="not nanoGPT's vocabulary"):
            load(tmp_path)


@pytest.mark.skipif(not STORIES.is_dir(), reason="needs WORKBENCH_MODELS/small/stories260k")
def test_a_real_sentencepiece_model_is_read_as_it_was_trained(tmp_path):
    vocabulary = [
        (token.replace(" ", "▁"), score)
        for token, score in json.loads((STORIES / "tok512.json").read_text())
    ]
    bare = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    bare.pre_tokenizer = pre_tokenizers.Metaspace()
    bare.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    subject = load(STORIES)
    with pytest.raises(WorkbenchError, match="without a tokenizer"):
        subject.encode("Once upon a time")
    subject = Subject(
        "stories",
        subject.model,
        fast(bare, bos_token="\n<s>\n", eos_token="\n</s>\n"),
        subject.card,
    )
    subject = kept(subject, tmp_path)
    prompt = "Lily and Tom went to the park. Lily"
    assert "".join(subject.tokens(subject.encode(prompt))) == " " + prompt
    assert subject.tokens(torch.tensor([subject.answer_id(".", prompt="the park")])) == ["."]
    ids = subject.encode(prompt)
    logs = subject.model(ids).logits[0, -1].log_softmax(-1)
    word = subject.tokens(logs.argmax()[None])[0]
    readout = wb.lens(subject, prompt, answer=[word])
    assert readout.answer_prob[0, -1, -1] == pytest.approx(float(logs.max().exp()), abs=1e-5)


def test_bare_ids_keep_their_labels_and_answers():
    tokenizer = id_tokenizer(30)
    assert spelling.labels(tokenizer, [3, 12, 0]) == ["3", "12", "0"]
    assert spelling.continued(tokenizer, "3 1", "2") == ((2,), False)
