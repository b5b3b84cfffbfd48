"""What there is to know about each dataset before any of it is read. Needs no torch, so that listing is quick."""

from __future__ import annotations

from dataclasses import dataclass

from datasets.core.paths import cache_folder, raw_folder


@dataclass(frozen=True)
class Card:
    """Facts for people. ``raw_files`` are looked for in the raw folder, "a|b" as either of them.

    A set without any is made from a seed.
    """

    title: str
    modalities: tuple[str, ...]
    classes: int
    size: str
    licence: str
    citation: str
    how_to_get: str
    quirks: tuple[str, ...] = ()
    raw_files: tuple[str, ...] = ()


CARDS: dict[str, Card] = {
    "synthav": Card(
        title="SynthAV: generated sounds and shapes whose imbalance can be dialled",
        modalities=("audio", "visual"),
        classes=8,
        size="generated, nothing on disk",
        licence="none needed: the samples are drawn from a seed",
        citation="this repository",
        how_to_get="Nothing to get: it is generated in memory when a run asks for it.",
    ),
    "avmnist": Card(
        title="AV-MNIST: a written digit and the same digit spoken",
        modalities=("audio", "visual"),
        classes=10,
        size="33 MB to download, 0.2 GB prepared",
        licence="MNIST: CC BY-SA 3.0 (as commonly redistributed). Free Spoken Digit Dataset: CC BY-SA 4.0. The pairs "
        "are adapted material of both: share alike under CC BY-SA 4.0 and name both",
        citation="LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998). Jackson and others: Free "
        "Spoken Digit Dataset, github.com/Jakobovski/free-spoken-digit-dataset at 26eb9aa",
        how_to_get="`python -m datasets download avmnist` fetches 33 MB: the four MNIST files (CC BY-SA 3.0) into "
        "data/avmnist/mnist/ and the 3,000 recordings of the Free Spoken Digit Dataset (CC BY-SA 4.0) into "
        "data/avmnist/fsdd/recordings/. Files you have already can be put there by hand.",
        quirks=(
            "The literature's AV-MNIST (PCA-reduced images, TIDIGITS) is not distributed; this one is built from "
            "public files by a fixed pairing rule, so its numbers compare only with themselves.",
            "With k = 10 a recording occurs ten times with ten images: there are ten times fewer distinct sounds.",
            "split=takes is not speaker-independent; split=speaker6 leaves one speaker out.",
        ),
        raw_files=("mnist", "fsdd/recordings"),
    ),
    "crema_d": Card(
        title="CREMA-D: actors say a sentence with one of six emotions",
        modalities=("audio", "visual"),
        classes=6,
        size="3.0 GB to download, 13 GB prepared (preset paper)",
        licence="Open Database License 1.0, contents under Database Contents License 1.0",
        citation="Cao, Cooper, Keutmann, Gur, Nenkova, Verma: CREMA-D: Crowd-sourced Emotional Multimodal Actors "
        "Dataset, IEEE Transactions on Affective Computing 2014, doi 10.1109/TAFFC.2014.2336244",
        how_to_get="Get AudioWAV (0.6 GB) and VideoFlash (2.4 GB) of https://gitlab.com/cs-cooper-lab/crema-d-mirror "
        "(or https://github.com/CheyneyComputerScience/CREMA-D) with git lfs, Open Database License, and "
        "put both folders into data/crema_d/. `python -m datasets download crema_d` adds the split lists "
        "(290 KB) in data/crema_d/splits/. A zip download holds git-lfs pointers instead of media.",
        quirks=(
            "The label is the intended emotion; raters agree for 77 % of the clips (71 % by face, 48 % by voice).",
            "split=ogm is the clip-level draw of the OGM-GE authors: all 91 actors are in train and in test, so it "
            "rewards knowing the speaker. split=speaker_independent keeps actors apart.",
            "split=ogm has no official validation set: it is carved from the authors' train list by a fixed rule.",
            "Three pairs of clips have equal audio under two labels; one pair is divided between ogm's train and test.",
            "Class order is NEU HAP SAD FEA DIS ANG, as in OGM-GE; other code bases sort the names.",
            "The released OGM-GE code always sees the first frame its file system lists. Here a sample sees a random "
            "one in training and the middle one in evaluation; pick=first takes the first in time, in both.",
            "Four video files are known to be odd (very short, error picture, no duration, one minute long).",
        ),
        raw_files=("AudioWAV", "VideoFlash"),
    ),
    "ave": Card(
        title="AVE: events that can be seen and heard, 28 kinds, from AudioSet",
        modalities=("audio", "visual"),
        classes=28,
        size="about 5 GB to download, 6 GB prepared",
        licence="none stated; the videos remain their uploaders' (YouTube)",
        citation="Tian, Shi, Li, Duan, Xu: Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018",
        how_to_get="Get AVE_Dataset.zip (about 5 GB, Google Drive, linked from github.com/YapengTian/AVE-ECCV18) and "
        "put its folder AVE, 4,097 files VIDEOID.mp4, into data/ave/, so that data/ave/AVE/VIDEOID.mp4 is there. "
        "`python -m datasets download ave` adds the four lists (290 KB) in data/ave/splits/.",
        quirks=(
            "45 of the 4,097 videos are listed two or three times, each time with another label; 8 are in train and in "
            "test, 10 in train and in val. split=paper keeps them, split=clean keeps one row per video.",
            "One row of train (VWi2ENBuTbw) lasts no time; it is kept.",
            "The archive's Annotations.txt has a header, the repository's has none.",
            "A label holds for a part of the ten seconds; the papers that balance modalities use all of them.",
        ),
        raw_files=("AVE",),
    ),
    "kinetics_sounds": Card(
        title="Kinetics-Sounds: 31 actions of Kinetics-400 that can be heard and seen",
        modalities=("audio", "visual"),
        classes=31,
        size="18,716 clips of Kinetics-400 (all of it: hundreds of GB), 28 GB prepared",
        licence="annotations CC BY 4.0 (Kinetics); the videos remain their uploaders' (YouTube)",
        citation="Arandjelovic, Zisserman: Look, Listen and Learn, ICCV 2017. Kay and others: The Kinetics Human "
        "Action Video Dataset, arXiv 1705.06950",
        how_to_get="Get Kinetics-400 from the copy that github.com/cvdfoundation/kinetics-dataset describes (parts of "
        "train, val and test, hundreds of GB; and the replacements for about 1,400 corrupt clips, which have to be "
        "applied), and put the clips ID_SSSSSS_EEEEEE.mp4 into data/kinetics_sounds/train, val and test; only the "
        "18,716 that are listed are needed. `python -m datasets download kinetics_sounds` adds the lists (2 MB) in "
        "data/kinetics_sounds/splits/. Do not mix in clips of Kinetics-600 or 700.",
        quirks=(
            "The OGM-GE authors' train list stops inside the letter h (14,799 clips; all would be about 20,900); test "
            "covers all letters. The cut is kept.",
            "Three of the 2,597 test clips are not in Kinetics-400's test list (Q78zQuQ9oeg_34, ZSnZ4DLJKAM_70, "
            "r_5GkTNsM4g_7), which is why later papers have 2,594: without them say max_missing=3.",
            "split=ogm validates on BML's 1,320 clips of Kinetics' validation set; split=carved takes them from train.",
            "BML's other list, KS.json, has the test clips in its training part: it is refused.",
            "Papers count 31, 32, 33 or 34 classes; these are the 31 of OGM-GE, in alphabetical order.",
        ),
        raw_files=("train|frames", "test|frames"),
    ),
    "vggsound": Card(
        title="VGGSound: 309 classes of sounds whose source can be seen",
        modalities=("audio", "visual"),
        classes=309,
        size="199,176 clips of YouTube (hundreds of GB), 150 GB prepared",
        licence="annotations CC BY 4.0; the videos remain their owners' (YouTube)",
        citation="Chen, Xie, Vedaldi, Zisserman: VGGSound: A Large-scale Audio-Visual Dataset, ICASSP 2020",
        how_to_get="There is no official archive of the media any more: get a copy, or fetch the listed ten seconds of "
        "every YouTube video (199,176 clips, hundreds of GB; a part of them is gone), and put ID_SSSSSS.mp4 (or "
        "ID_START.mp4) into data/vggsound/train and test, or all into data/vggsound/train; recordings in "
        "data/vggsound/audio/ and folders of frames in data/vggsound/frames/ are preferred where they exist. `python "
        "-m datasets download vggsound` adds the list (8 MB) in data/vggsound/splits/. What is missing has to be "
        "allowed by max_missing=N.",
        quirks=(
            "Results on different surviving subsets do not compare: look at found of listed under every number.",
            "15,446 test clips come from 14,851 videos; whether videos of test are in train is counted.",
            "Two classes are spelled alike: playing timpani, playing tympani. 23 class names contain commas.",
            "Reported by others: 408 clips in groups of equal features, 5,965 with frozen frames, muted sound.",
            "Other code numbers classes as they happen to be found on disk; here they are sorted by name.",
        ),
        raw_files=("train|frames",),
    ),
    "ucf101": Card(
        title="UCF-101: 101 human actions, as pictures and as optical flow",
        modalities=("visual", "flow"),
        classes=101,
        size="about 30 GB to download, as much prepared",
        licence="for research; none stated formally",
        citation="Soomro, Zamir, Shah: UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild, "
        "arXiv 1212.0402. Flow: Feichtenhofer, Pinz, Zisserman, CVPR 2016",
        how_to_get="Get ucf101_jpegs_256.zip.001 to .003 and ucf101_tvl1_flow.zip.001 to .003 (about 30 GB) of "
        "ftp.tugraz.at/pub/feichtenhofer/tsfusion/data, join the parts of each (cat ...zip.00? > ...zip), unzip them, "
        "and put the folders jpegs_256 and tvl1_flow (u and v) into data/ucf101/. Instead of jpegs_256 the videos of "
        "www.crcv.ucf.edu/data/UCF101/UCF101.rar (6.5 GB) will do: data/ucf101/UCF-101/CLASS/NAME.avi. `python -m "
        "datasets download ucf101` adds the split lists (0.1 MB) in data/ucf101/splits/; if the server's certificate "
        "is refused, unpack UCF101TrainTestSplits-RecognitionTask.zip there yourself.",
        quirks=(
            "split=1, 2, 3 are the authors'; the three results are usually averaged. Validation: groups 24 and 25.",
            "Flow has one frame less than the pictures; 128 is no motion; a mirrored u becomes 255 - u.",
            "The class HandstandPushups is also spelled HandStandPushups: names are compared without case.",
            "BalanceBenchmark numbers classes by name, which swaps Hammering with HammerThrow and JumpingJack with "
            "JumpRope; it flips pictures, u and v independently of each other.",
            "About half of the classes have sound; it is not used.",
        ),
        raw_files=("jpegs_256|UCF-101", "tvl1_flow"),
    ),
    "manifest": Card(
        title="your own data: a CSV that names recordings, videos, pictures or arrays, no code",
        modalities=(),
        classes=0,
        size="what yours takes",
        licence="yours",
        citation="yours",
        how_to_get="Write a CSV that begins id,split,label,audio:audio,visual:video, one row per sample, as data/"
        "manifest/manifest.csv (or say path=FILE.csv), with paths from its folder on. split is train, val or test; a "
        "column is MODALITY:KIND, two or more of them, and KIND is audio, video, frames (a folder of pictures), image, "
        "npy or npz (FILE.npz#ARRAY). An empty cell is a missing modality (allow_missing=true).",
        quirks=(
            "Every mistake is named with its line and column before anything is decoded.",
            "Without rows of val, a tenth of train becomes val, by a fixed rule.",
            "Pictures are cropped and mirrored in training; say augment=none where left and right matter.",
        ),
        raw_files=("manifest.csv",),
    ),
    "cmu_mosi": Card(
        title="CMU-MOSI: opinions on films, 2,199 utterances as features of words, voice and face",
        modalities=("text", "audio", "visual"),
        classes=2,
        size="0.15 GB to download (0.33 GB not aligned), as much prepared",
        licence="research use, by the authors' terms; the videos remain their uploaders' (YouTube)",
        citation="Zadeh, Zellers, Pincus, Morency: MOSI, IEEE Intelligent Systems 2016, arXiv 1606.06259. Processed "
        "sequences: Tsai and others: Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019",
        how_to_get="Get mosi_data.pkl (147 MB; for aligned=false mosi_data_noalign.pkl, 326 MB), the processed "
        "sequences of the Multimodal Transformer's authors, linked from github.com/yaohungt/Multimodal-Transformer (a "
        "Dropbox folder), and put it into data/cmu_mosi/. It is read without trusting it: a pickle that names anything "
        "but arrays is refused.",
        quirks=(
            "A sentiment of exactly 0 is called positive by some codes and negative by others: label=nonneg, pos, "
            "exclude_zero; also label=three and seven.",
            "Features are standardised with train's statistics; BalanceBenchmark does not: normalise=false.",
            "Releases differ in their features (5 or 74 of voice, 20 or 47 of face): widths are read from the file.",
        ),
        raw_files=("mosi_data.pkl|mosi_data_noalign.pkl",),
    ),
    "cmu_mosei": Card(
        title="CMU-MOSEI: opinions of a thousand speakers, 22,856 utterances as features of words, voice and face",
        modalities=("text", "audio", "visual"),
        classes=2,
        size="3.5 GB to download (12 GB not aligned), as much prepared and in memory meanwhile",
        licence="research use, by the authors' terms; the videos remain their uploaders' (YouTube)",
        citation="Zadeh, Liang, Poria, Cambria, Morency: Multimodal Language Analysis in the Wild, ACL 2018. Processed "
        "sequences: Tsai and others: Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019",
        how_to_get="Get mosei_senti_data.pkl (3.5 GB; for aligned=false mosei_senti_data_noalign.pkl, 12 GB), the "
        "processed sequences of the Multimodal Transformer's authors, linked from "
        "github.com/yaohungt/Multimodal-Transformer (a Dropbox folder), and put it into data/cmu_mosei/. It is read "
        "without trusting it: a pickle that names anything but arrays is refused.",
        quirks=(
            "As cmu_mosi. Its audio has infinities: they become 0 and are counted.",
            "Samples without any text are kept and counted; MultiBench drops them.",
        ),
        raw_files=("mosei_senti_data.pkl|mosei_senti_data_noalign.pkl",),
    ),
    "cg_mnist": Card(
        title="CG-MNIST: a grey digit and a coloured one, whose colour tells the class in training alone",
        modalities=("gray", "color"),
        classes=10,
        size="12 MB to download, 55 MB prepared",
        licence="MNIST: CC BY-SA 3.0 (as commonly redistributed)",
        citation="LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998). Kim and others: Learning Not "
        "to Learn, CVPR 2019. Fan and others: PMR, CVPR 2023",
        how_to_get="`python -m datasets download cg_mnist` fetches the four MNIST files (12 MB, CC BY-SA 3.0) into "
        "data/cg_mnist/mnist/. Files you have already, such as those of data/avmnist/mnist/, can be put there by hand.",
        quirks=(
            "Colours are drawn here by the papers' rule: their own draws are not published as numbers.",
            "The papers choose their epoch on the test set; here 5,000 training images validate, coloured as the test.",
        ),
        raw_files=("mnist",),
    ),
}


def raw_available(name: str) -> bool:
    """Whether the raw folder has what preparing needs (looked at, not checked)."""
    files = CARDS[name].raw_files
    return bool(files) and all(any((raw_folder(name) / one).exists() for one in file.split("|")) for file in files)


def state(name: str) -> str:
    """Where a dataset stands: embedded, prepared (how often), raw files there, or not there."""
    if not CARDS[name].raw_files:
        return "embedded"
    prepared = len(list(cache_folder(name).glob("*/manifest.json")))
    if prepared:
        return "prepared" if prepared == 1 else f"prepared ({prepared} ways)"
    return "raw files there" if raw_available(name) else "not there"
