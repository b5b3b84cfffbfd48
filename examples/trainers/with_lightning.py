"""Lightning in automatic optimisation, and two batches of 20 samples for one step of 40."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader
from two_encoders import network, report, samples

from ogm.integrations.lightning import BalancedMixin


class Classifier(BalancedMixin, LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
        audio, visual, label = batch
        loss = self.balanced_loss(self.net.strategy, self.net(audio, visual), label, epoch=self.current_epoch)
        self.log("loss", loss)
        return loss

    def on_train_batch_end(self, *args: object) -> None:
        self.log_dict(self.net.strategy.logs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


module = Classifier()
trainer = Trainer(max_epochs=3, accumulate_grad_batches=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(module, DataLoader(samples("train"), 20))
net = module.net
report(net)
