"""Names to encoders and fusions. Nothing is imported until it is asked for."""

ENCODERS: dict[str, str] = {
    "cnn": "models.encoders.cnn:CNN",
    "resnet18": "models.encoders.resnet:ResNet18",
}

FUSIONS: dict[str, str] = {
    "concat": "models.fusions.concat:Concat",
    "sum": "models.fusions.sum:Sum",
    "film": "models.fusions.film:FiLM",
    "gated": "models.fusions.gated:Gated",
}
