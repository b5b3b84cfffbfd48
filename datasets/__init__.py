"""Multimodal data: what a sample is, where it lies on disk, how it becomes batches."""

_HUGGING_FACE = {"load_dataset", "load_from_disk", "Dataset", "DatasetDict", "Audio", "Image", "Features"}


def __getattr__(name: str) -> object:
    # Only these names raise ImportError: libraries probe modules with hasattr, which must keep getting AttributeError.
    if name in _HUGGING_FACE:
        raise ImportError(
            f"'datasets' here is OGM-Bench's folder, not Hugging Face's package, so there is no {name!r} in it. "
            "Run from another folder, or with python -P, to import Hugging Face's."
        )
    raise AttributeError(f"module 'datasets' has no attribute {name!r}")
