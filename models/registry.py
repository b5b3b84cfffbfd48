"""Names to encoders and fusions. Nothing is imported until it is asked for."""

ENCODERS: dict[str, str] = {
    "cnn": "models.encoders.cnn:CNN",
    "resnet18": "models.encoders.resnet:ResNet18",
    "resnet34": "models.encoders.resnet:ResNet34",
    "resnet50": "models.encoders.resnet:ResNet50",
    "mlp": "models.encoders.mlp:MLP",
    "transformer": "models.encoders.transformer:Transformer",
    "vit": "models.encoders.vit:ViT",
    "conformer": "models.encoders.conformer:Conformer",
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


def member(name: str) -> tuple[str, ...]:
    """What an encoder is made with besides the shape: ("efficientnet_b0",) of a family's member, () of our own."""
    _, colon, rest = name.partition(":")
    return (rest,) if colon else ()


def where(name: str) -> str:
    """module:Class of an encoder. Raises KeyError for a name nobody knows."""
    family, colon, _ = name.partition(":")
    return FAMILIES[family] if colon else ENCODERS[name]
