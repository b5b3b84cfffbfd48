"""The Trainer of Hugging Face's transformers, and two batches of 20 samples for one step of 40."""

import tempfile

import torch
from transformers import TrainingArguments
from two_encoders import network, report, samples

from ogm.integrations.transformers import BalancedTrainer

net = network()
data = {split: [{"audio": a, "visual": v, "labels": y} for a, v, y in samples(split)] for split in ("train", "test")}
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        num_train_epochs=3,
        per_device_train_batch_size=20,
        gradient_accumulation_steps=2,
        max_grad_norm=0,  # no clipping, as in the other examples
        seed=0,  # of the noise of OGM-GE
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    trainer = BalancedTrainer(
        net.strategy, net, arguments, train_dataset=data["train"], eval_dataset=data["test"],
        optimizers=(optimizer, constant), compute_metrics=lambda p: {"accuracy": (p[0].argmax(1) == p[1]).mean()},
    )  # fmt: skip
    trainer.train()
    print("Trainer.evaluate: accuracy", trainer.evaluate()["eval_accuracy"])
report(net)
