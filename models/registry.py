"""Names of encoders and fusions, and where their classes are. No class is imported here."""

from __future__ import annotations

__all__ = ["ENCODERS", "FAMILIES", "FUSIONS", "encoder_args_from_name", "encoder_path"]

ENCODERS: dict[str, str] = {
    "cnn": "models.encoders.cnn:CNN",
    "resnet18": "models.encoders.resnet:ResNet18",
    "resnet34": "models.encoders.resnet:ResNet34",
    "resnet50": "models.encoders.resnet:ResNet50",
    "mlp": "models.encoders.mlp:MLP",
    "transformer": "models.encoders.transformer:Transformer",
    "vit": "models.encoders.vit:ViT",
    "conformer": "models.encoders.conformer:Conformer",
    "text_cnn": "models.encoders.text_cnn:TextCNN",
}

# Encoders of other libraries, as FAMILY:NAME, such as torchvision:efficientnet_b0.
FAMILIES: dict[str, str] = {
    "torchvision": "models.encoders.torchvision:Torchvision",
    "timm": "models.encoders.timm:Timm",
}

FUSIONS: dict[str, str] = {
    "concat": "models.fusions.concat:Concat",
    "sum": "models.fusions.sum:Sum",
    "film": "models.fusions.film:FiLM",
    "gated": "models.fusions.gated:Gated",
    "late": "models.fusions.late:Late",
    "late_prob": "models.fusions.late_prob:LateProb",
    "film_sym": "models.fusions.film_sym:FiLMSym",
    "gated_sym": "models.fusions.gated_sym:GatedSym",
    "mmtm": "models.fusions.mmtm:MMTMLate",
    "mmtm_concat": "models.fusions.mmtm_concat:MMTMConcat",
    "centralnet": "models.fusions.centralnet:CentralNet",
    "cross_attn": "models.fusions.cross_attn:CrossAttention",
    "mbt": "models.fusions.mbt:MBT",
}


def encoder_args_from_name(name: str) -> tuple[str, ...]:
    """Return what an encoder is constructed with after the shape.

    Args:
        name: Of an encoder, such as "cnn" or "torchvision:efficientnet_b0".

    Returns:
        ("efficientnet_b0",) for a network of another library, () for an encoder of our own.
    """
    _, colon, rest = name.partition(":")
    return (rest,) if colon else ()


def encoder_path(name: str) -> str:
    """Return where the class of an encoder is.

    Args:
        name: Of an encoder, such as "cnn" or "torchvision:efficientnet_b0".

    Returns:
        "module:Class".

    Raises:
        KeyError: For a name that is not registered.
    """
    family, colon, _ = name.partition(":")
    return FAMILIES[family] if colon else ENCODERS[name]
