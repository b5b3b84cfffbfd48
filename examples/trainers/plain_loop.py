"""A loop of one's own: what all the other examples come to."""

import torch
from torch.utils.data import DataLoader
from two_encoders import network, report, samples

net = network()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for epoch in range(3):
    for audio, visual, label in DataLoader(samples("train"), 40):
        optimizer.zero_grad()
        net.strategy.backward(net(audio, visual), label, epoch=epoch)
        optimizer.step()
report(net)
