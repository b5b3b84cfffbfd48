"""CMU-MOSEI: ten times CMU-MOSI, from more speakers and about more than films; see cmu_mosi.py for what is done to it.

A pickle has to be in memory whole while it is prepared: 4 GB for the aligned file, 13 GB for the other.
"""

from __future__ import annotations

from typing import ClassVar

from datasets.cmu_mosi import CMUMOSI
from datasets.core.card import Card


class CMUMOSEI(CMUMOSI):
    """Samples: text, audio and visual, each (L, D)."""

    name = "cmu_mosei"
    file: ClassVar[str] = "mosei_senti_data"
    card = Card(
        title="CMU-MOSEI: opinions of a thousand speakers, 22,856 utterances as features of words, voice and face",
        modalities=("text", "audio", "visual"),
        classes=2,
        size="3.5 GB to download (12 GB not aligned), as much prepared and in memory meanwhile",
        licence="research use, by the authors' terms; the videos remain their uploaders' (YouTube)",
        citation="Zadeh, Liang, Poria, Cambria, Morency: Multimodal Language Analysis in the Wild, ACL 2018. Processed "
        "sequences: Tsai and others: Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019",
        run_on_cpu="13 min on one core (estimated from its steps, without loading: results/bench/recipes-cpu.json)",
        how_to_get="Get mosei_senti_data.pkl (3.5 GB; for aligned=false mosei_senti_data_noalign.pkl, 12 GB), the "
        "processed sequences of the Multimodal Transformer's authors, linked from "
        "github.com/yaohungt/Multimodal-Transformer (a Dropbox folder), and put it into data/cmu_mosei/. It is read "
        "without trusting it: a pickle that names anything but arrays is refused.",
        quirks=(
            "As cmu_mosi. Its audio has infinities: they become 0 and are counted.",
            "Samples without any text are kept and counted; MultiBench drops them.",
        ),
        raw_files=("mosei_senti_data.pkl|mosei_senti_data_noalign.pkl",),
    )
