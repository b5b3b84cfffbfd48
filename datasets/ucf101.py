"""UCF-101: 101 human actions, seen twice: as pictures (RGB) and as optical flow.

Pictures come from the folders of jpegs_256, or from the videos themselves; TV-L1 flow from tvl1_flow (8-bit pictures,
128 is no motion), whose authors publish both. All frames are stored; of three segments a sample sees one frame each,
and the flow at the same three places, as (2, 3, size, size): horizontal, vertical, (x - 128) / 128. One crop and one
flip decide about all of a sample, in pictures and flow alike; mirrored, horizontal flow u becomes 255 - u first.

The authors' three splits, ``split=1`` to ``3``; none of the 25 groups of a class (clips of one source video) is on both
sides. Validation is carved from train: groups 24 and 25 of every class, which none of the splits tests. Labels are the
authors' numbers less one; BalanceBenchmark sorts the names instead, which swaps four of them.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from typing_extensions import override

import ogm
from datasets.core.card import Card
from datasets.core.checks import open_member, printable
from datasets.core.errors import DataError, LabelError, ManifestError, PinMismatchError, VideoDecodeError
from datasets.core.files import convert_disk_errors, write_atomic
from datasets.core.lazy import torch
from datasets.core.paths import raw_folder
from datasets.core.progress import Progress
from datasets.core.recipes import PAPER
from datasets.core.split_lists import GitBlob, Pin, class_names, collect, records, refuse_leaks
from datasets.decode import image_files, image_transforms
from datasets.storage.cache import Column
from datasets.storage.clip_dataset import ClipDataset, ClipOptions
from datasets.storage.clip_files import Jpegs, Preset, boxes_of, read_pictures
from datasets.storage.download import ExactFile, fetch
from datasets.storage.list_files import Rows

ZIP = "UCF101TrainTestSplits-RecognitionTask.zip"
ZIP_PIN = ExactFile(113_943, "5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27")  # as re-hosted
ZIP_URL = f"https://www.crcv.ucf.edu/data/UCF101/{ZIP}"
LISTS = ("classInd.txt", *(f"{kind}list0{n}.txt" for n in (1, 2, 3) for kind in ("train", "test")))
SIZES = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}  # the lists' own sha256 were never seen
VAL_GROUPS = ("24", "25")
CLASSES = class_names("""
ApplyEyeMakeup | ApplyLipstick | Archery | BabyCrawling | BalanceBeam | BandMarching | BaseballPitch | Basketball |
BasketballDunk | BenchPress | Biking | Billiards | BlowDryHair | BlowingCandles | BodyWeightSquats | Bowling |
BoxingPunchingBag | BoxingSpeedBag | BreastStroke | BrushingTeeth | CleanAndJerk | CliffDiving | CricketBowling |
CricketShot | CuttingInKitchen | Diving | Drumming | Fencing | FieldHockeyPenalty | FloorGymnastics | FrisbeeCatch |
FrontCrawl | GolfSwing | Haircut | Hammering | HammerThrow | HandstandPushups | HandstandWalking | HeadMassage |
HighJump | HorseRace | HorseRiding | HulaHoop | IceDancing | JavelinThrow | JugglingBalls | JumpingJack | JumpRope |
Kayaking | Knitting | LongJump | Lunges | MilitaryParade | Mixing | MoppingFloor | Nunchucks | ParallelBars |
PizzaTossing | PlayingCello | PlayingDaf | PlayingDhol | PlayingFlute | PlayingGuitar | PlayingPiano | PlayingSitar |
PlayingTabla | PlayingViolin | PoleVault | PommelHorse | PullUps | Punch | PushUps | Rafting | RockClimbingIndoor |
RopeClimbing | Rowing | SalsaSpin | ShavingBeard | Shotput | SkateBoarding | Skiing | Skijet | SkyDiving |
SoccerJuggling | SoccerPenalty | StillRings | SumoWrestling | Surfing | Swing | TableTennisShot | TaiChi | TennisSwing
| ThrowDiscus | TrampolineJumping | Typing | UnevenBars | VolleyballSpiking | WalkingWithDog | WallPushups |
WritingOnBoard | YoYo
""")
STEM = re.compile(r"v_(\w+)_g(\d\d)_c(\d\d)", re.ASCII)
FOLDED = {name.lower(): name for name in CLASSES}
FRAMES, RGB_BYTES, FLOW_BYTES = 186, 15_000, 3_000  # of a clip, of a picture: roughly, for disk space


class UCF101Options(ClipOptions):
    """The arguments of ``ucf101``."""

    preset: Literal["paper"] = "paper"
    split: Literal[1, 2, 3] = 1


class UCF101(ClipDataset):
    """See the module. Samples: visual (3, 3, image_size, image_size), flow (2, 3, image_size, image_size)."""

    name = "ucf101"
    modalities = ("visual", "flow")
    classes = CLASSES
    Options = UCF101Options
    card = Card(
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
    )
    training_recipe: ClassVar[Mapping[str, Any]] = {
        **PAPER,
        "encoders": {"visual": "resnet18", "flow": "resnet18"},
        "dataset_args": {"preset": "paper", "split": 1},
    }
    adaptive_lr: ClassVar[float] = 1e-4
    presets: ClassVar = {"paper": Preset(None, "every")}
    published = ("the authors: 13320 clips; split 1 9537/3783, split 2 9586/3734, split 3 9624/3696",)

    # ---- lists
    @classmethod
    @override
    def lists(cls, options: UCF101Options) -> tuple[str, ...]:
        return ("classInd.txt", f"trainlist0{options.split}.txt", f"testlist0{options.split}.txt")

    @classmethod
    @override
    def pin(cls, options: UCF101Options, name: str) -> Pin | GitBlob | None:
        return None  # the archive is pinned, and the lists are counted

    @classmethod
    def download(cls, base: str | None = None, progress: Progress | None = None) -> str:
        """The archive of split lists, unpacked into splits/."""
        folder = raw_folder(cls.name) / "splits"
        if not all((folder / name).is_file() for name in LISTS):
            archive = fetch(f"{base}/{ZIP}" if base else ZIP_URL, folder / ZIP, ZIP_PIN, progress=progress)
            unzip(archive, folder)
            archive.unlink()
        return "" if cls.raw_available() else cls.card.how_to_get

    @classmethod
    @override
    def read_splits(cls, options: UCF101Options, folder: Path) -> tuple[dict[str, Rows], Counter[str]]:
        names = cls.lists(options)
        texts, notes = {}, Counter[str]()
        for name in names:
            texts[name], extra_notes = cls.read_list(options, folder, name)
            notes += extra_notes
        check_classes(texts[names[0]], folder / names[0])
        parsed = []
        for name, published in zip(names[1:], SIZES[options.split], strict=True):
            rows, extra_notes = parse(texts[name], folder / name)
            if len(rows) != published and not options.allow_unpinned:
                raise PinMismatchError(
                    f"{folder / name}: not the published list: {len(rows)} clips, expected {published}; download it "
                    "again, or say allow_unpinned=true"
                )
            parsed.append(rows)
            notes += extra_notes
        train, test = parsed
        parts = {
            "train": [row for row in train if STEM.sub(r"\2", row[0]) not in VAL_GROUPS],
            "val": [row for row in train if STEM.sub(r"\2", row[0]) in VAL_GROUPS],
            "test": test,
        }
        refuse_leaks(parts)
        return parts, notes

    @classmethod
    @override
    def group(cls, sample: str) -> str:
        return sample[: sample.rindex("_c")]

    # ---- files
    @classmethod
    def find(cls, raw: Path, clips: Sequence[str]) -> dict[str, dict[str, Path]]:
        """Names are compared without case: HandstandPushups is also spelled HandStandPushups."""
        videos = {p.stem.lower(): p for p in sorted((raw / "UCF-101").glob("*/*.avi"))}
        folders = [
            {p.name.lower(): p for p in (sorted(folder.iterdir()) if folder.is_dir() else [])}
            for folder in (raw / "jpegs_256", raw / "tvl1_flow" / "u", raw / "tvl1_flow" / "v")
        ]
        files: dict[str, dict[str, Path]] = {}
        for clip in clips:
            rgb, u, v = (folder.get(clip.lower()) for folder in folders)
            rgb = rgb or videos.get(clip.lower())
            if rgb and u and v:
                files[clip] = {"visual": rgb, "flow_u": u, "flow_v": v}
        return files

    @classmethod
    @override
    def expected_at(cls, raw: Path, key: str) -> Path:
        return raw / f"{{jpegs_256,tvl1_flow/u,tvl1_flow/v}}/{key}"

    @classmethod
    @override
    def columns(cls, options: UCF101Options, clips: int) -> dict[str, Column]:
        rgb = Jpegs.columns("visual", clips * FRAMES, RGB_BYTES)
        return rgb | {
            k: c for m in ("flow_u", "flow_v") for k, c in Jpegs.columns(m, clips * FRAMES, FLOW_BYTES).items()
        }

    @classmethod
    @override
    def decode(cls, options: UCF101Options, files: Mapping[str, Path], notes: Counter[str]) -> dict[str, np.ndarray]:
        rgb = read_pictures(files["visual"], cls.presets["paper"], notes)
        notes["frames_as_found"] = 0  # they are meant to be
        flow = []
        for side in ("flow_u", "flow_v"):
            jpegs, extra_notes = image_files.read_folder(files[side], "L")
            flow.append(jpegs)
            notes.update(extra_notes)
        both = min(map(len, flow))
        notes["flow_uneven"] += len(flow[0]) != len(flow[1])
        if {image_files.size(one) for one in flow[0][:both]} != {image_files.size(one) for one in flow[1][:both]}:
            raise VideoDecodeError(f"{files['flow_u']} and {files['flow_v']} differ in size; extract the flow again")
        u, v = (Jpegs.rows(m, jpegs[:both]) for m, jpegs in zip(("flow_u", "flow_v"), flow, strict=True))
        return {**Jpegs.rows("visual", rgb), **u, **v}

    # ---- samples
    @override
    def open_columns(self, keys: Sequence[str]) -> None:
        self.visual, self.u, self.v = (Jpegs(self.cache, name, keys) for name in ("visual", "flow_u", "flow_v"))
        self.count = self.visual.count

    @override
    def inputs(
        self, index: torch.Tensor, chosen: torch.Tensor, seeds: Sequence[int], draws: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        rgb, flow = [], []
        for b, (i, places) in enumerate(zip(index.tolist(), chosen.tolist(), strict=True)):
            jpegs = self.visual.read(i, places)
            last = int(self.u.count[i]) - 1  # flow has a frame less
            pairs = list(zip(*(side.read(i, [min(p, last) for p in places]) for side in (self.u, self.v)), strict=True))
            box = flow_box = None
            if draws is not None:
                (box,) = boxes_of(draws[b, :1], jpegs[0])
                flow_box = rescaled(box, image_files.size(jpegs[0]), image_files.size(pairs[0][0]))
            rgb.append([image_files.scaled(jpeg, self.size, box) for jpeg in jpegs])
            flow.append(
                [np.stack([image_files.scaled(x, self.size, flow_box, "L") for x in pair], -1) for pair in pairs]
            )
        inputs = {"visual": torch.from_numpy(np.array(rgb)), "flow": torch.from_numpy(np.array(flow))}
        if not seeds:
            return {"visual": image_transforms.normalise(inputs["visual"]), "flow": scaled_flow(inputs["flow"])}
        return inputs

    def augment(self, batch: ogm.Batch, seeds: Sequence[int]) -> ogm.Batch:
        """Mirrors half of the samples, each in all of its frames, and normalises."""
        flip = self.draws(seeds)[:, :1, 3].expand(-1, self.picks) < 0.5
        batch.inputs["visual"] = image_transforms.normalise(batch.inputs["visual"], flip.float())
        batch.inputs["flow"] = scaled_flow(batch.inputs["flow"], flip[:, 0])
        return batch


def scaled_flow(flow: torch.Tensor, flip: torch.Tensor | None = None) -> torch.Tensor:
    """(B, T, S, S, 2) uint8 -> (B, 2, T, S, S) float32, (x - 128) / 128; mirrored where ``flip`` (B,)."""
    x = flow.permute(0, 4, 1, 2, 3).float()
    if flip is not None:
        mirrored = x.flip(-1)
        mirrored = torch.cat([255 - mirrored[:, :1], mirrored[:, 1:]], 1)
        x = torch.where(flip.to(x.device)[:, None, None, None, None], mirrored, x)
    return (x - 128) / 128


def rescaled(box: image_files.Box, size: tuple[int, int], other: tuple[int, int]) -> image_files.Box:
    """The same part of a picture of another (height, width)."""
    (height, width), (h, w) = size, other
    return box[0] * w / width, box[1] * h / height, box[2] * w / width, box[3] * h / height


# ---- lists
def check_classes(text: str, path: Path) -> None:
    """``1 ApplyEyeMakeup`` and so on. Raises LabelError unless they are the declared classes in their order."""
    names = [fields[1] for _, fields in records(text, path, "number class", " ")]
    if [name.lower() for name in names] != [name.lower() for name in CLASSES]:
        raise LabelError(
            f"{path}: not the 101 classes in the authors' order, but {len(names)}: {', '.join(names[:5])} ..."
        )


def parse(text: str, path: Path) -> tuple[Rows, Counter[str]]:
    """Rows ``Class/v_Class_gXX_cYY.avi``, in train lists with a class number from 1, which has to be that class's.

    The clips are called v_Class_gXX_cYY as the class list spells the class. Raises ManifestError, LabelError.
    """
    named = []
    for line, fields in records(text, path, "Class/v_Class_gXX_cYY.avi", " "):
        match = STEM.fullmatch(fields[0].rpartition("/")[2].removesuffix(".avi"))
        folder = fields[0].rpartition("/")[0]
        if not match or match[1].lower() != folder.lower():
            raise ManifestError(f"{path}, line {line}: {fields[0][:80]!r} is not called Class/v_Class_gXX_cYY.avi")
        label = FOLDED.get(folder.lower(), folder)
        number = fields[1] if len(fields) > 1 else ""
        if number and label in CLASSES and number != str(CLASSES.index(label) + 1):
            raise LabelError(f"{path}, line {line}: {label} is class {CLASSES.index(label) + 1}, not {number[:20]}")
        named.append((line, f"v_{label}_g{match[2]}_c{match[3]}", label))
    return collect(named, path, CLASSES)


def unzip(archive: Path, folder: Path) -> None:
    """The seven lists out of the authors' zip, by the last part of their path. Raises DataError."""
    try:
        with zipfile.ZipFile(archive) as file:
            members = {Path(m.filename).name: m for m in file.infolist() if m.file_size < 2_000_000}
            if absent := [name for name in LISTS if name not in members]:
                raise DataError(f"{archive}: {', '.join(absent)} is not in it; get it elsewhere")
            contents = {}
            for name in LISTS:
                with open_member(file, members[name]) as member:
                    contents[name] = member.read(members[name].file_size + 1)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, UnicodeError) as error:
        raise DataError(f"{archive}: a damaged archive ({printable(error)}); download it again") from error
    for name, content in contents.items():
        with convert_disk_errors(folder):
            write_atomic(folder / name, content)
