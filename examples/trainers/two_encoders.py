"""The model and the data of the examples beside this file: two encoders, one linear layer over both features."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ogm


class Net(nn.Module):  # the strategy is a part of it: it is moved, trained and saved with it
    def __init__(self) -> None:
        super().__init__()
        self.audio = nn.Sequential(nn.Linear(20, 16), nn.ReLU())
        self.visual = nn.Sequential(nn.Linear(30, 16), nn.ReLU())
        self.head = nn.Linear(32, 4)
        self.strategy = ogm.create("ogm_ge", alpha=0.8).attach({"audio": self.audio, "visual": self.visual})

    def forward(self, audio: Tensor, visual: Tensor) -> ogm.Output:
        features = {"audio": self.audio(audio), "visual": self.visual(visual)}
        logits = self.head(torch.cat(list(features.values()), dim=1))
        return ogm.Output(logits, ogm.split_linear(self.head, features), features)


def network() -> Net:
    torch.manual_seed(0)  # the same weights in every example
    return Net()


def samples(split: str) -> TensorDataset:
    number, seed = {"train": (240, 0), "test": (200, 1)}[split]
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(4, (number,), generator=g)
    audio = torch.randn(number, 20, generator=g) + 2 * torch.eye(4, 20)[label]  # easier than ...
    visual = torch.randn(number, 30, generator=g) + torch.eye(4, 30)[label]
    return TensorDataset(audio, visual, label)


def report(net: Net) -> None:
    numbers = ogm.evaluate(net, {"test": DataLoader(samples("test"), 50)}, strategy=net.strategy)["test"]
    print("test:", ", ".join(f"{name} {value:.3f}" for name, value in numbers.items()))
