"""Any network of timm, by name: timm:convnextv2_atto. timm is an extra."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from models.encoder import Encoder, Pool, Pooling, channels
from models.encoders.torchvision import width
from models.weights import fill, read


class Timm(Encoder):
    """Without its classifier; initialised as timm does it, with as many input channels as ``shape`` has.

    ``weights`` is a file with a state dict under timm's names (timm's own hub is not asked). A closed box: for fusions
    of features. ValueError where timm is not installed, or has no such network, or it cannot take the input.
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
            fill(self.network, read(weights), f"weights={weights}", head)
        self.dim = width(self.network, shape, f"timm:{name}")
        self.over_time = Pool(pool, self.dim)

    def maps(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(x)
        return features[..., None, None]
