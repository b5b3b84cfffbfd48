"""Mixed precision with a GradScaler, and two batches of 20 samples for one step of 40."""

import torch
from torch.utils.data import DataLoader
from two_encoders import network, report, samples

device = "cuda" if torch.cuda.is_available() else "cpu"
net = network().to(device)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
scaler = torch.amp.GradScaler(device)
for epoch in range(3):
    for number, batch in enumerate(DataLoader(samples("train"), 20)):
        audio, visual, label = (x.to(device) for x in batch)
        with torch.autocast(device, torch.float16):
            output = net(audio, visual)
        net.strategy.backward(output, label, epoch=epoch, accumulate_to=40, optimizer=optimizer, scaler=scaler)
        if number % 2:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
report(net)
