"""Cnn14 with random weights, in the format of the published checkpoint: what tests and trials use in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monitor.embed import panns
from monitor.types import Samples


def save_random_checkpoint(path: Path, *, seed: int, sounds: Sequence[Samples]) -> None:
    """`path` holds {'iteration', 'model', 'sampler'}, over 300 MB, like the published file.

    The statistics of the batch normalisations are those of `sounds` (32 kHz, one length), as training leaves them:
    without them an untrained network says little more of a sound than how loud it is. The sampler's state is of numpy
    objects, which a careful loader must be told of.
    """
    import torch

    torch.manual_seed(seed)
    network = panns.cnn14_class()(32000, 1024, 320, 64, 50, 14000, 527)
    augmenter, network.spec_augmenter = network.spec_augmenter, torch.nn.Identity()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.tensor(np.stack(sounds)))
    network.spec_augmenter = augmenter
    sampler = {
        "indexes": np.arange(10),
        "pointer": np.int64(3),
        "weights": np.ones(3, np.float32),
        "random_state": np.random.RandomState(seed).get_state(),
    }
    torch.save({"iteration": 600_000, "model": network.state_dict(), "sampler": sampler}, path)
