"""Lightning in manual optimisation. Nothing of ogm.integrations is needed."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader
from two_encoders import network, report, samples


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = network()

    def training_step(self, batch: list[torch.Tensor], number: int) -> None:
        audio, visual, label = batch
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.net.strategy.backward(self.net(audio, visual), label, epoch=self.current_epoch, optimizer=optimizer)
        optimizer.step()
        self.log_dict({"loss": loss, **self.net.strategy.logs})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


module = Classifier()
trainer = Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(module, DataLoader(samples("train"), 40))
net = module.net
report(net)
