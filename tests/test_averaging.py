"""The moving average of weights, against torch's own."""

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.conftest import tiny_gpt
from workbench.training.averaging import Averaged


def test_it_is_the_average_that_torch_computes():
    model = tiny_gpt(positions="learned")
    ours = Averaged(model, 0.9)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=False)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        with torch.no_grad():
            for weights in model.parameters():
                weights += torch.randn(weights.shape, generator=generator)
        ours.update(model)
        theirs.update_parameters(model)
        pairs = zip(
            ours.module.state_dict().values(), theirs.module.state_dict().values(), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)
    assert ours.n_averaged == int(theirs.n_averaged) == 5
    assert not torch.equal(next(ours.module.parameters()), next(model.parameters()))
