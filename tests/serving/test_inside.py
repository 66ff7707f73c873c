"""What an answer says of its own making, against the model asked by other ways in this process."""

import base64

import pytest
import torch
from safetensors.torch import load as read_safetensors

import workbench
from tests.conftest import weight_of
from workbench.interp import lens
from workbench.interp.engine.packed import reader
from workbench.interp.patching.direct import direct

ASK = {"model": "shelf-base", "prompt": "The king said to the", "max_tokens": 4, "temperature": 0}


def asked(live, **inside):
    answer = live.post("/completions", **ASK, workbench=inside)
    assert answer.status_code == 200, answer.text
    return answer.json()["workbench"]


def test_captured_activations_are_the_models(live):
    sites = ["resid_post", "z", "post", "pattern"]
    captured = asked(live, capture={"sites": sites, "layers": [1, 5], "positions": [0, 3, -1]})[
        "capture"
    ]
    tensors = read_safetensors(base64.b64decode(captured["data"]))
    subject = workbench.load("shelf-base")
    ids = torch.tensor([captured["tokens"]])
    assert captured["tokens"][:-4] == subject.ids(ASK["prompt"])
    run = reader(subject).record(ids)
    n = len(captured["tokens"])
    at = [0, 3, n - 1]
    assert captured["positions"] == at and len(tensors) == 8
    for layer in (1, 5):
        places = {
            "hook_resid_post": run.resid[layer + 1],
            "attn.hook_z": run.z[layer],
            "mlp.hook_post": run.post[layer],
        }
        for name, wanted in places.items():
            assert torch.allclose(tensors[f"blocks.{layer}.{name}"], wanted[0, at], atol=1e-5), name
        pattern = tensors[f"blocks.{layer}.attn.hook_pattern"]
        assert pattern.shape == (6, 3, n) and torch.allclose(
            pattern.sum(-1), torch.ones(6, 3), atol=1e-5
        )


def test_captured_activations_of_an_intervention_are_the_edited_models(live):
    change = {"edits": [{"layer": 2, "site": "resid_post", "action": "set", "value": 0.25}]}
    captured = asked(live, intervention=change, capture={"sites": ["resid_post"], "layers": [2]})[
        "capture"
    ]
    (tensor,) = read_safetensors(base64.b64decode(captured["data"])).values()
    assert torch.allclose(tensor, torch.full_like(tensor, 0.25))


def test_each_token_is_explained_as_the_readings_explain_it(live):
    explained = asked(live, explain={"tokens": 2, "top": 3})["explain"]
    subject = workbench.load("shelf-base")
    first = explained["tokens"][0]
    assert (len(explained["tokens"]), explained["left_out"]) == (2, 2)
    assert (
        first["top"][0]["text"] == first["text"] and len(first["attribution"]) == first["position"]
    )
    read = lens(subject, ASK["prompt"], answer=first["text"])
    assert [row["probability"] for row in first["lens"]] == pytest.approx(
        read.answer_prob[0, :, -1].tolist(), abs=1e-5
    )
    contributions = direct(subject, ASK["prompt"], answer=first["text"], wrong=first["against"])
    layer, head = (int(n) for n in first["heads"][0]["head"][1:].split("H"))
    assert first["heads"][0]["contribution"] == pytest.approx(
        float(contributions.heads[layer, head]), abs=1e-4
    )
    assert abs(contributions.heads).max() == pytest.approx(
        abs(first["heads"][0]["contribution"]), abs=1e-4
    )


def test_attribution_is_the_slope_towards_the_prompt(live):
    """A small step of one embedding from its place to the mean loses as much as its attribution
    says.
    """
    explained = asked(live, explain={"tokens": 1})["explain"]["tokens"][0]
    subject = workbench.load("shelf-base")
    embed = subject.model.get_input_embeddings()
    at = embed(torch.tensor(subject.ids(ASK["prompt"]))).double()
    mean = weight_of(embed).mean(0).double()
    model = subject.model.double()
    step = 1e-5

    def value(x):
        with torch.no_grad():
            return float(
                model(inputs_embeds=x[None]).logits[0, -1].log_softmax(-1)[explained["token"]]
            )

    for pos, attributed in enumerate(explained["attribution"]):
        moved = at.clone()
        moved[pos] += step * (mean - at[pos])
        assert (value(at) - value(moved)) / step == pytest.approx(attributed, abs=1e-3)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"workbench": {"capture": {"sites": ["nowhere"]}}}, "workbench.capture"),
        ({"workbench": {"capture": {"sites": ["z"], "layers": [6]}}}, "workbench.capture"),
        ({"workbench": {"capture": {"sites": ["z"], "positions": [99]}}}, "workbench.capture"),
        ({"workbench": {"capture": {"sites": ["z"]}}, "n": 2}, "workbench.capture"),
        ({"workbench": {"explain": {"tokens": 65}}}, "workbench.explain.tokens"),
        ({"workbench": {"explain": {}}, "stream": True}, "workbench.explain"),
        (
            {
                "workbench": {"capture": {"sites": ["pattern", "q", "k", "v", "z", "pre", "post"]}},
                "prompt": [5] * 240,
            },
            "workbench.capture",
        ),
    ],
)
def test_what_cannot_be_looked_into_is_refused_by_name(live, body, param):
    answer = live.post("/completions", **{**ASK, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
