"""What can be wrong with data. Every message is one line: dataset, sample, path, what is wrong, what to do."""

from __future__ import annotations


class DataError(ValueError):
    """Bad data, or data that is not there. The command line prints it as one line and exits with 2."""


class BusyError(DataError):
    """Another process is writing what this one was to write."""


class ManifestError(DataError):
    """A list, index or header cannot be parsed, or says something impossible."""


class LabelError(DataError):
    """A label that is not in the declared class list, or two labels for one sample."""


class SplitLeakError(DataError):
    """A sample stands in two splits."""


class PinMismatchError(DataError):
    """A file is not the one its digest pins."""


class MissingMediaError(DataError):
    """Files that are listed are not there."""


class EmptyMediaError(DataError):
    """A recording or a video with (next to) nothing in it."""


class AudioDecodeError(DataError):
    """A recording that cannot be read."""


class VideoDecodeError(DataError):
    """A video that cannot be read."""


class NoAudioTrackError(DataError):
    """A video without sound, where its sound is needed."""


class UnsafePickleError(DataError):
    """A pickle that wants more than numbers, texts and containers."""


class CacheError(DataError):
    """A prepared set that does not match its manifest."""
