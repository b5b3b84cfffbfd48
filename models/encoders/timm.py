"""Any network of timm, by name: timm:convnextv2_atto. timm is an extra."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from models.encoder import Encoder, channels, measure_width
from models.layers import Pooling, TimePooling
from models.weights import fill, read_state_dict


class Timm(Encoder):
    """A network of timm without its classifier, initialised as timm does it, for any number of input channels.

    It does not show its levels, so it feeds fusions of features only.

    Args:
        shape: Of a sample, (C, H, W) or (C, T, H, W).
        name: Of the network in timm.
        weights: Path of a state dict under timm's names; timm's own hub is not asked. None to start untrained.
        pool: How frames are pooled over time.

    Raises:
        ValueError: Where timm is not installed or has no such network, for an input that the network cannot take, or
            for weights that are not there or do not fit.
    """

    source = "timm"

    def __init__(self, shape: Sequence[int], name: str, *, weights: str | None = None, pool: Pooling = "mean") -> None:
        super().__init__()
        try:
            import timm
        except ImportError:
            raise ValueError(
                f"timm:{name} needs timm, an extra: install it beside this project, pip install timm==1.0.31"
            ) from None
        if weights == "imagenet":
            raise ValueError(f"timm:{name}: weights=imagenet is torchvision's; give the path of a file with timm's")
        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:3])
            raise ValueError(f"timm has no network {name!r}; near it: {near or 'none'}")
        self.network = timm.create_model(name, in_chans=channels(shape), num_classes=0)
        if weights is not None:
            head = self.network.pretrained_cfg["classifier"]
            fill(self.network, read_state_dict(weights), f"weights={weights}", head)
        self.dim = measure_width(self.network, shape, f"timm:{name}")
        self.over_time = TimePooling(pool, self.dim)

    def maps(self, x: Tensor) -> Tensor:
        """Compute the network's features of images (N, C, H, W), as maps (N, dim, 1, 1)."""
        features: Tensor = self.network(x)
        return features[..., None, None]
