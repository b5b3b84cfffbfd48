"""Names to encoders and fusions. Nothing is imported until it is asked for."""

ENCODERS: dict[str, str] = {
    "cnn": "models.encoders.cnn:CNN",
    "resnet18": "models.encoders.resnet:ResNet18",
    "resnet34": "models.encoders.resnet:ResNet34",
    "resnet50": "models.encoders.resnet:ResNet50",
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
