"""A convolution over a sequence and the maximum over it: for texts as bytes, and quick on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.encoder import Encoder, Level, as_sequence, sequence_shape
from models.layers import Pooling, TimePooling


class TextCNN(Encoder):
    """An embedding of each step, one convolution over them with ReLU, and the largest value of each channel.

    Each channel looks for a pattern of some bytes, such as a part of a word; the maximum finds it wherever it stands,
    and the zeros behind the end of a short text do not dilute it, as they would a mean.

    Args:
        shape: Of a sample, (T, F), or a spectrogram (C, bins, T), which is read along time.
        embedding: Width of the embedding of a step.
        width: Channels of the convolution, and width of the feature.
        kernel: Steps that the convolution spans, odd.
        pool: How steps are pooled to one feature.

    Raises:
        ValueError: For a width or a kernel that will not do, or an input of another shape.

    Differences:
        - Paper: words with pretrained vectors, kernels of 3, 4 and 5 words, dropout. Ours: bytes or other steps with an
          embedding that is learned, one kernel, no dropout.

    References:
        - Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014.
    """

    source = "Kim, 2014, on bytes"

    def __init__(
        self,
        shape: Sequence[int],
        *,
        embedding: int = 16,
        width: int = 64,
        kernel: int = 7,
        pool: Pooling = "max",
    ) -> None:
        super().__init__()
        if min(embedding, width, kernel) < 1 or kernel % 2 == 0:
            raise ValueError(f"embedding={embedding}, width={width}, kernel={kernel}: each 1 or more, the kernel odd")
        self.dim, self.widths = width, (embedding, width)
        self.embedding = nn.Linear(sequence_shape(shape)[1], embedding, bias=False)
        self.convolution = nn.Conv1d(embedding, width, kernel, padding=kernel // 2)
        nn.init.normal_(self.embedding.weight)  # as torch.nn.Embedding: of one-hot steps it is one
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]
        self.over_time = TimePooling(pool, width)

    def embed(self, x: Tensor) -> Tensor:
        """Turn sequences (B, T, F) or spectrograms (B, C, bins, T) into maps (B, embedding, T)."""
        embedded: Tensor = self.embedding(as_sequence(x))
        return embedded.mT

    def levels(self) -> Sequence[Level]:
        """Return the embedding, and the convolution on its maps (B, embedding, T) -> (B, width, T)."""
        return [self.embed, lambda maps: self.convolution(maps).relu()]
