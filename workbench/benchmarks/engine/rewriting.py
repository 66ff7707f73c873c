"""Tasks of generation for encoder-decoders: the question is read, the answer is written."""

from typing import TYPE_CHECKING, Any

from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.models.utils import postprocess_generated_text as until_stop

from workbench.benchmarks.engine.cache import Cache
from workbench.benchmarks.engine.lm import GENERATION, Prompts, SubjectLM
from workbench.doors import reading
from workbench.generation import end_tokens
from workbench.generation.rewriting import AT_ONCE, reading_ids, rewrite
from workbench.subjects.kinds import SEQ2SEQ, kind_of_model

if TYPE_CHECKING:
    from workbench.subjects import Subject

MOST = 256
"""Tokens of an answer where the task names no number."""
TAKEN = {"until", "max_gen_toks", "do_sample", "temperature"}
"""Settings of generation that have a meaning here; the last two where they ask for no draw."""


def lm_of(subject: "Subject", cache: Cache | None) -> SubjectLM:
    """What lm-eval calls for a Subject of any kind.

    Args:
        subject: The model.
        cache: Its earlier answers; None for none.
    """
    return (RewritingLM if kind_of_model(subject.model) == SEQ2SEQ else SubjectLM)(
        subject, cache=cache
    )


def why_no_heads(subject: "Subject", name: str) -> str:
    """Why a task that scores heads is not asked an encoder-decoder; "" for a decoder."""
    if kind_of_model(subject.model) != SEQ2SEQ:
        return ""
    return (
        f"{name} scores the heads of a decoder; the Heads page shows the scores that have a "
        f"meaning for an encoder-decoder such as {subject.name}."
    )


def why_skipped(subject: "Subject", name: str, task: Any) -> str:
    """Why a task is not asked an encoder-decoder, in a sentence; "" if it is, and for a decoder.

    Args:
        subject: The model.
        name: The task's name.
        task: The lm-eval task.
    """
    if kind_of_model(subject.model) != SEQ2SEQ:
        return ""
    if task.OUTPUT_TYPE != "generate_until":
        return (
            f"{name} asks how likely a continuation is; {subject.name} is an encoder-decoder and "
            "is asked tasks of generation only, such as the suite rewriting."
        )
    settings = task.config.generation_kwargs or {}
    drawn = bool(settings.get("do_sample") or settings.get("temperature"))
    others = sorted(set(settings) - TAKEN)
    if drawn or others:
        what = "draws its answers at random" if drawn else f"sets {', '.join(others)}"
        return (
            f"{name} {what}; an encoder-decoder such as {subject.name} is read greedily here, so "
            "ask a task with do_sample: false and no other settings."
        )
    return ""


class RewritingLM(SubjectLM):
    """An encoder-decoder behind lm-eval: each context is read whole, and its answer written."""

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Token ids of a text as the encoder reads it, with its end token.

        Args:
            string: The text.
            add_special_tokens: Ignored: an encoder always gets them.
        """
        return reading_ids(self.tokenizer, string)

    def _generation_plan(self, keys: list[Any], settings: dict[str, Any]) -> list[Prompts]:
        """Batches of one setting each, longest contexts first."""
        groups: dict[str, list[Any]] = {}
        for key in keys:
            groups.setdefault(key[1], []).append(key)
        plan = []
        for which, members in groups.items():
            members.sort(key=lambda key: (-len(key[0]), key[0]))
            with reading(GENERATION, "give them as lm-eval's task guide does", "cannot be used"):
                gen = normalize_gen_kwargs(settings[which], MOST)
            room = min(gen.pop("max_gen_toks"), self.max_length)
            self.n_truncated += sum(len(context) > self.max_length for context, _ in members)
            plan += [
                Prompts(members[start : start + AT_ONCE], room, gen)
                for start in range(0, len(members), AT_ONCE)
            ]
        return plan

    def _generate(self, batch: Prompts) -> dict[Any, str]:
        """The text that is written about each context, up to a stop sequence."""
        eos = self.tokenizer.eos_token_id
        stop = handle_stop_sequences(
            batch.settings.get("until"), eos=None if eos is None else self.tokenizer.decode(eos)
        )
        sources = [context[-self.max_length :] for context, _ in batch.keys]
        written = rewrite(
            self.subject.model, sources, most=batch.room, ends=end_tokens(self.subject)
        )
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        return {
            key: until_stop(text, stop, None) for key, text in zip(batch.keys, texts, strict=True)
        }
