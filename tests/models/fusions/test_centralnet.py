"""CentralNet, by hand; its own heads and scalars in training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.config.run_config import configure
from benchmarks.runner.build import build as built_from
from benchmarks.runner.experiment import resolve
from tests.helpers.engines import build
from tests.helpers.models import SAMPLES, inputs, model


def test_a_central_network_by_hand() -> None:
    net, x = model("centralnet", sites=2), inputs()
    central = net.fusion
    pooled: dict[str, list[Tensor]] = {m: [] for m in x}
    for m, v in x.items():
        maps = v.transpose(1, 2).flatten(0, 1) if v.ndim == 5 else v
        for number, stage in enumerate(net.encoders[m].encoder.stages):
            maps = stage(maps)
            if number > 0:
                pooled[m].append(maps.mean((2, 3)).view(SAMPLES, -1, maps.shape[1]).mean(1))
    c = torch.zeros(SAMPLES, 1, dtype=torch.float64)
    for number, stage in enumerate(central.stages):
        mixed = sum(a * pooled[m][number] @ stage.projections[m].weight.T for m, a in zip(x, stage.alphas, strict=True))
        mixed = mixed + (0 if stage.alpha_central is None else stage.alpha_central * c)
        c = torch.relu(mixed @ stage.layer.weight.T + stage.layer.bias)
    output = net(x)
    torch.testing.assert_close(output.logits, central.head(c))
    for m, said in output.unimodal_logits.items():
        torch.testing.assert_close(said, central.unimodal_heads[m](pooled[m][-1]))
        assert torch.equal(said, output.aux_logits[m])
    assert [s.alpha_central is None for s in central.stages] == [True, False]


def test_heads_of_a_central_network_learn_from_the_samples_that_have_their_modality() -> None:
    engine = build("vanilla", "centralnet", missing=True)
    batch = engine.loaders["train"].epoch(0)[0]  # type: ignore[index]
    output = engine.model(batch.inputs, batch.present)
    losses = engine.strategy.losses(output, batch, engine)
    assert list(losses) == ["fused", "aux/audio", "aux/visual"]
    there = batch.present["visual"]
    expected = F.cross_entropy(output.aux_logits["visual"][there], batch.label[there])
    torch.testing.assert_close(losses["aux/visual"], expected)


def test_weight_decay_leaves_alphas_alone() -> None:
    engine = built_from(
        resolve(
            configure({"dataset": "synthav", "fusion": "centralnet", "dataset_args.num_train": 64, "weight_decay": 0.5})
        )
    )
    spared = {id(p) for group in engine.optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    alphas = [p for n, p in engine.model.named_parameters() if "alpha" in n]
    assert spared == {id(p) for p in alphas} and len(alphas) == 5
    assert len(engine.parameters) == len(list(engine.model.parameters()))
