"""Accelerate's loop, and two batches of 20 samples for one step of 40. Nothing of ogm.integrations is needed."""

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from two_encoders import network, report, samples

accelerator = Accelerator(gradient_accumulation_steps=2, cpu=not torch.cuda.is_available())
net = network()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
prepared, optimizer, loader = accelerator.prepare(net, optimizer, DataLoader(samples("train"), 20))
for epoch in range(3):
    for audio, visual, label in loader:
        with accelerator.accumulate(prepared):
            output = prepared(audio, visual)
            net.strategy.backward(  # for accelerator.backward(loss)
                output, label, epoch=epoch, accumulate_to=40, optimizer=optimizer, scaler=accelerator.scaler
            )
            optimizer.step()
            optimizer.zero_grad()
report(net)
