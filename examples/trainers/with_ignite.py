"""Ignite's engine, whose training step is one's own. Nothing of ogm.integrations is needed."""

import torch
from ignite.engine import Engine, Events
from torch.utils.data import DataLoader
from two_encoders import network, report, samples

net = network()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def training_step(engine: Engine, batch: list[torch.Tensor]) -> float:
    audio, visual, label = batch
    net.train()
    optimizer.zero_grad()
    loss = net.strategy.backward(net(audio, visual), label, epoch=engine.state.epoch - 1)
    optimizer.step()
    return float(loss)


trainer = Engine(training_step)
trainer.add_event_handler(Events.COMPLETED, lambda: report(net))
trainer.run(DataLoader(samples("train"), 40), max_epochs=3)
