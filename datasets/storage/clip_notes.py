"""What is counted while clips are prepared and divided into splits, in words for people."""

from __future__ import annotations

from collections import defaultdict

from datasets.storage.cache import Cache

# What is counted, in words.
NOTE_MEANINGS = {
    "missing": "clips that are listed and could not be used",
    "unreadable": "... of these, files that are there and cannot be decoded",
    "too_few_frames": "... of these, clips with fewer frames than the preset asks for",
    "classes_absent": "classes without a single clip",
    "audio_truncated": "recordings that end before they should; what is there was used",
    "audio_not_finite": "samples of sound that were NaN or infinite; they became 0",
    "silent": "recordings of digital silence",
    "video_partial": "videos with damaged or lost frames; the others were used",
    "video_resized": "videos of another size than the rest; they were scaled",
    "frames_damaged": "pictures in frame folders that cannot be read; the next one was used",
    "frames_as_found": "clips whose frames came from a folder, extracted by somebody else's rule",
    "flow_uneven": "clips whose two flow folders differ in length; what both have was used",
    "list_lf_twin": "lists whose line ends were changed, else as published",
    "list_extra_columns": "rows of a list with more columns than are read",
    "list_repeated_rows": "rows that stand twice in a list; one was used",
    "list_zero_length": "rows of a list whose event lasts no time; they were used",
    "videos_with_more_labels": "further rows of a video, each with another label; they were used",
    "actors_also_in_train": "actors who are in train too",
    "groups_also_in_train": "source videos of which train has other clips",
    "media_also_in_train": "clips whose sound or picture file is, byte for byte, that of a clip in train",
}


def identical_files(cache: Cache) -> dict[str, list[list[str]]]:
    owners: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key in cache.keys:
        for modality, digest in cache.facts[key].get("digests", {}).items():
            owners[modality][digest].append(key)
    return {m: [keys for keys in by.values() if len(keys) > 1] for m, by in owners.items()}


def note_line(kind: str, count: int) -> str:
    return f"{kind} {count}: {NOTE_MEANINGS[kind]}"
