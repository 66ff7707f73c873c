"""The prose of a report: what was done, how its numbers were computed, and their limits."""

BEHAVIOUR = """
Behaviour. Both models answer the same items (a random subset fixed by task and seed {seed}); scores
are lm-evaluation-harness's. Differences are paired. Right-or-wrong answers get McNemar's exact test
and Tango's score interval; all others a t test of a mean difference of 0, corrected for skewness,
and the interval of that test.
"""

HEADS = """
Jensen-Shannon distance (0: the same attention, 1: nothing in common) of each head's attention in
the two models on the same {n} texts, averaged over queries.
"""

LAYERS = """
The residual stream at the same {tokens} tokens of {n} texts, before the first layer (0) and after
each layer. Linear CKA (Kornblith et al. 2019) is invariant to rotation and scale, the cosine is
not. Bands are 95 % intervals over texts, for CKA by the jackknife.
"""

LENS = """
Logit lens (nostalgebraist 2020): each layer's residual stream read by the model's own final norm
and unembedding. Shown is its KL divergence from the model's output, averaged over the tokens of {n}
texts, with 95 % intervals over texts.
"""

WEIGHTS = """
The update tuned − base of every matrix: its Frobenius norm divided by that of the base's matrix,
and its effective rank, exp of the entropy of its singular values (Roy & Vetterli 2007). These are
computed from the weights alone, so they have no intervals.
"""

CAUSE = """
Cause. A hybrid has the weights of one model with some parts of the other: a layer with its norms,
its attention, its MLP, a head with its query, key, value and output weights (shared keys and values
are parts of their own), embeddings, the final norm. All hybrids answer the same {n} samples of
{measure}. The share of a part is mean(hybrid − host) / mean(donor − host) over samples: the share
of the gain that the tuned part adds to the base, or that is lost when the base's part is put into
the tuned model. 0 is none and 1 all of it; shares below 0 and above 1 are possible. Intervals are
Fieller's, which account for the uncertainty of the gain itself; p is a t test of no change,
corrected for skewness and for the number of parts in one direction (Benjamini-Hochberg). The
baseline is {draws} random subsets of heads and neurons with as many parameters; p_random tests
whether a part does no more than they do.

Checks, with every layer computed, largest difference from what has to be: {checks}.
"""

ACTIVATIONS = """
Both models read the same {n} questions with their right answers. One activation of one model
replaces the other's, and the rest is computed with the other's weights (exactly, by packed
activation patching). Metric: log-likelihood of the right answer, nats: {gain}. Positions are
counted from the question's end; "middle" is all in between together, "answer" the answer's own
tokens, "all" every position at once; the row "out" is the residual stream after the last layer.
"""

BETWEEN = """
All weights at base + alpha (tuned − base): alpha 0 is the base and 1 the tuned model; below 0 and
above 1 the line is extrapolated. Bands are 95 % intervals over the same {n} samples.
"""

ELSEWHERE = """
run:ID and edit:NAME are names in the home folder of the machine that made this page. To use such a
model elsewhere, write it to a folder with workbench export and give that folder; the sha256 below
tells whether it is the same model.
"""

LIMITS = """
A share says what a part does in combination with the rest of the model that it is put into. Parts
that were fine-tuned together depend on each other: a layer that carries nothing alone can be needed
by another one, and a layer that can be removed from the tuned model without loss can still carry
much of the gain into the base, because other parts are redundant with it. So both directions are
shown; they need not agree, shares do not add up to 1, and none of them proves that the change is in
one place.

A hybrid is a model that nobody trained. Its parts get activations they were not trained on, which
by itself costs some of the score; this is a common reason for shares below 0. A share above 1 means
that the part gains more without the rest of the change.

Random subsets are drawn from heads and neurons of all layers, not from embeddings or norms. Their
interval is over samples, not over draws.

Intervals are over the samples of the measure named, with both models fixed. They say nothing about
another behaviour, another run of the same fine-tuning, or another base.
"""


def paragraphs(text: str, **values: object) -> list[str]:
    """The paragraphs of a text, each on one line, with its placeholders filled in."""
    return [" ".join(part.split()).format(**values) for part in text.strip().split("\n\n")]
