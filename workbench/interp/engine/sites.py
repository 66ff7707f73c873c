"""What can be patched, where replacements come from, and the branches that one map is made of."""

SITES = {
    "resid_pre": ("layer", "pos"),
    "resid_mid": ("layer", "pos"),
    "resid_post": ("layer", "pos"),
    "attn_out": ("layer", "pos"),
    "mlp_out": ("layer", "pos"),
    "z": ("layer", "head"),
    "q": ("layer", "head"),
    "k": ("layer", "head"),
    "v": ("layer", "head"),
    "pattern": ("layer", "head"),
    "z_by_pos": ("layer", "head", "pos"),
    "neurons": ("layer", "neuron"),
}
"""The sites that can be swept, with the axes of their map; `k` and `v` count key-value heads."""

REPLACEMENTS = {
    "other": "what the other run has at this place",
    "zero": "zeros",
    "mean": "the mean over reference texts",
    "resample": "what another, random text has at this place",
    "noise": "the corrupted run is the clean prompt with Gaussian noise on the embeddings that differ",
}
"""Where the replacing activation comes from."""

OUTPUTS = {
    "attn_out": "attn_out",
    "mlp_out": "mlp_out",
    "z": "z",
    "z_by_pos": "z",
    "neurons": "post",
}
WINDOWED = ("attn_out", "mlp_out")
