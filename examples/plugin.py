"""Somebody else's model and training loop, with OGM-GE in three lines. Needs torch and ogm, nothing else from here."""

import torch
from torch import nn

import ogm


class AudioVisualNet(nn.Module):
    """A network as people have it: two encoders and one linear layer over both features."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.audio = nn.Sequential(nn.Conv1d(1, 8, 9, stride=4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.visual = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(16, num_classes)

    def forward(self, audio: torch.Tensor, visual: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The joint logits, and the features that they are made of."""
        features = {"audio": self.audio(audio), "visual": self.visual(visual)}
        return self.head(torch.cat(list(features.values()), dim=1)), features


def main() -> None:
    torch.manual_seed(0)
    label = torch.randint(5, (256,))
    audio = torch.randn(256, 1, 64) + label[:, None, None]  # sound gives the class away at once ...
    visual = torch.randn(256, 3, 16, 16) + 0.1 * label[:, None, None, None]  # ... pictures take longer
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(audio, visual, label), 32, shuffle=True)
    net = AudioVisualNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    strategy = ogm.create("ogm_ge", alpha=0.8).attach({"audio": net.audio, "visual": net.visual})  # 1

    for epoch in range(3):
        for audio, visual, label in loader:
            logits, features = net(audio, visual)
            optimizer.zero_grad()
            output = ogm.Output(logits, ogm.split_linear(net.head, features))
            loss = strategy.backward(output, label, epoch=epoch)  # 2
            optimizer.step()
        numbers = ", ".join(f"{name} {value:.2f}" for name, value in strategy.logs.items())
        print(f"epoch {epoch}: loss {float(loss):.3f}; {numbers}")
    checkpoint = {"net": net.state_dict(), "strategy": strategy.state_dict()}  # 3
    print(f"saved {', '.join(checkpoint)}")


if __name__ == "__main__":
    main()
