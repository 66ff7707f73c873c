"""What can be patched, and where replacing activations come from."""

SITES = {
    # The residual stream [pos, d_model]: before a block, between its attention and MLP, after it.
    "resid_pre": ("layer", "pos"),
    "resid_mid": ("layer", "pos"),
    "resid_post": ("layer", "pos"),
    # What attention and MLP add to it [pos, d_model].
    "attn_out": ("layer", "pos"),
    "mlp_out": ("layer", "pos"),
    # Inside attention [pos, head, d_head]: a head at all positions at once, since what it reads
    # and what it writes stand at different ones.
    "z": ("layer", "head"),
    "q": ("layer", "head"),
    "k": ("layer", "head"),
    "v": ("layer", "head"),
    "pattern": ("layer", "head"),
    "z_by_pos": ("layer", "head", "pos"),
    # The MLP's hidden activations [pos, d_mlp].
    "neurons": ("layer", "neuron"),
}
"""The sites that can be swept, with the axes of their map; `k` and `v` count key-value heads."""

REPLACEMENTS = {
    "other": "what the other run has at this place",
    "zero": "zeros",
    "mean": "the mean over reference texts",
    "resample": "what another, random text has at this place",
    "noise": "the corrupted run is the clean prompt with Gaussian noise on the embeddings that "
    "differ",
}
"""Where the replacing activation comes from."""

# Only outputs can be ablated: zeroed queries or keys would still give a pattern, a uniform one.
OUTPUTS = {
    "attn_out": "attn_out",
    "mlp_out": "mlp_out",
    "z": "z",
    "z_by_pos": "z",
    "neurons": "post",
}
"""The sites that can be ablated, and the field of a `Recording` that holds them."""

# Windows (Meng et al. 2022) replace what several layers add; a stream is the layers' sum already.
WINDOWED = ("attn_out", "mlp_out")
"""The sites of which several layers can be replaced at once."""
