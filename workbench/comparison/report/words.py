"""The prose of a report: what was done, how its numbers were made, and what they do not say."""

BEHAVIOUR = """
Behaviour. Both models answer the same items (a random subset fixed by task and seed {seed}); scores are
lm-evaluation-harness's. Differences are paired; right or wrong answers have McNemar's exact test and Tango's
score interval, all else a t test that the mean difference is 0, corrected for skewness, and that test's interval.
"""

HEADS = """
Jensen-Shannon distance (0: the same attention, 1: nothing in common) of each head's attention in the two models on
the same {n} texts, averaged over queries.
"""

LAYERS = """
The residual stream at the same {tokens} tokens of {n} texts, before the first layer (0) and after each. Linear CKA
(Kornblith et al. 2019) is blind to rotation and scale, the cosine is not. Bands are 95 % intervals over texts, for CKA
by the jackknife.
"""

LENS = """
Logit lens (nostalgebraist 2020): each layer's stream read by the model's own final norm and unembedding; how far that
is from what the model says in the end, KL averaged over the tokens of {n} texts, with 95 % intervals over texts.
"""

WEIGHTS = """
The update tuned − base of every matrix, read off the weights, so there is no interval: its Frobenius norm over that of
the base's matrix, and its effective rank, exp of the entropy of its singular values (Roy & Vetterli 2007).
"""

CAUSE = """
Cause. A hybrid has the weights of one model with some parts of the other: a layer with its norms, its attention,
its MLP, a head with its query, key, value and output weights (where heads share keys and values, those are parts of
their own), embeddings, the final norm. All hybrids answer the same {n} samples of {measure}. The share of a part is
mean(hybrid − host) / mean(donor − host) over samples: in the base what of the gain comes along, in the tuned model
what goes. 0 is nothing and 1 all of it; less than 0 and more than 1 are possible. Intervals are Fieller's,
so that the gain's own noise counts; p is a t test of no change, corrected for skewness and over the parts of one
direction (Benjamini-Hochberg). The baseline are {draws} random subsets of heads and neurons of as many parameters;
p_random tests that a part does no more than they do.

Checks, on every layer of the model, greatest difference from what has to be: {checks}.
"""

ACTIVATIONS = """
Both models read the same {n} questions with their right answers; one activation of the one replaces the other's,
and the rest is computed by the other's weights (exactly, by packed activation patching). Metric: log-likelihood of
the right answer, nats: {gain}. Positions are counted from the question's end; "middle" are all between, together,
"answer" is the answer's own tokens, "all" every position at once; the row "out" is the stream after the last layer.
"""

BETWEEN = """
All weights at base + alpha (tuned − base): alpha 0 is base, 1 tuned, below 0 the change is undone beyond the base,
above 1 it is carried on. Bands are 95 % intervals over the same {n} samples.
"""

ELSEWHERE = """
run:ID and edit:NAME are names in the home folder where this page was made. Elsewhere, write such a model as a folder by
workbench export and name the folder; the sha256 below says whether it is the same model.
"""

LIMITS = """
A share says what a part does in the company it is put into. Parts fine-tuned together need each other: a layer that
carries nothing alone can be needed by another, and one that nobody misses in the tuned model can still carry much
of the gain into the base, because other parts do the same work. So both directions are shown, they need not agree,
shares do not add up to 1, and none of them proves that the change lives in one place.

A hybrid is a model that nobody trained. Its parts meet activations they have not seen, which by itself costs some
of the score; shares below 0 are of that kind. A share above 1 says that the part gains more without the rest of the
change.

Random subsets are drawn from heads and neurons of all layers, not from embeddings or norms. Their interval is over
samples, not over draws.

Intervals are over the samples of the measure named, with both models fixed: they say nothing about another
behaviour, another run of the same fine-tuning, or another base.
"""


def paragraphs(text: str, **values: object) -> list[str]:
    """The paragraphs of a text, each in one line, with its blanks filled."""
    return [" ".join(part.split()).format(**values) for part in text.strip().split("\n\n")]
