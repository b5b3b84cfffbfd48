"""Crops, flips and sizes: batched ones, and those of the released code."""

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from datasets.decode import image_transforms
from tests.helpers.media import frame


def picture(seed: int = 0, batch: int = 1, picks: int = 1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch * picks, 3, 9, 12, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (360, 480), mode="bicubic").clamp(0, 1)
    return (smooth * 255).byte().permute(0, 2, 3, 1).unflatten(0, (batch, picks)).contiguous()


def test_boxes_obey_the_rules_of_the_random_resized_crop():
    draws = torch.rand(4000, image_transforms.DRAWS, generator=torch.Generator().manual_seed(1))
    top, left, h, w, flip = image_transforms.crop_boxes(draws, 360, 480).unbind(-1)
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 360).all() and (left + w <= 480).all()
    assert torch.equal(top, top.round()) and torch.equal(w, w.round())
    area = h * w / (360 * 480)
    assert area.min() >= 0.079 and area.max() <= 1.0 and 0.4 < area.mean() < 0.6
    assert (w / h).min() > 0.74 and (w / h).max() < 1.35
    assert 0.47 < flip.mean() < 0.53 and set(flip.tolist()) == {0.0, 1.0}


def test_a_crop_that_never_fits_becomes_the_centre():
    draws = torch.full((1, image_transforms.DRAWS), 0.999)  # all of the area at 4/3 never fits a tall frame
    top, left, h, w, _ = image_transforms.crop_boxes(draws, 600, 300)[0].tolist()
    assert (top, left, h, w) == (100, 0, 400, 300)


def test_crops_are_those_of_torchvision_without_its_smoothing():
    frames = picture(2, batch=4, picks=2)
    boxes = image_transforms.crop_boxes(
        torch.rand(4, 2, image_transforms.DRAWS, generator=torch.Generator().manual_seed(3)), 360, 480
    )
    got = image_transforms.crop_and_flip(frames, boxes, 64)
    assert got.shape == (4, 3, 2, 64, 64) and got.dtype == torch.float32
    for b in range(4):
        for t in range(2):
            top, left, h, w, flip = (int(x) for x in boxes[b, t])
            crop = frames[b, t].permute(2, 0, 1)[:, top : top + h, left : left + w].float()
            want = v2.functional.resize(crop, [64, 64], antialias=False) / 255
            want = v2.functional.normalize(want.flip(-1) if flip else want, image_transforms.MEAN, image_transforms.STD)
            torch.testing.assert_close(got[b, :, t, 1:-1, 1:-1], want[:, 1:-1, 1:-1], atol=1e-3, rtol=0)


def test_evaluation_resizes_the_whole_frame_as_torchvision_does():
    frames = picture(4, batch=2)
    got = image_transforms.plain_resize(frames, 224)
    assert got.shape == (2, 3, 1, 224, 224)
    for b in range(2):
        want = v2.functional.resize(frames[b, 0].permute(2, 0, 1), [224, 224], antialias=True).float() / 255
        torch.testing.assert_close(
            got[b, :, 0], v2.functional.normalize(want, image_transforms.MEAN, image_transforms.STD), atol=0.02, rtol=0
        )


def test_parity_is_the_released_pipeline_within_a_grey_level():
    frames = np.stack([[frame(7 * b + t, 120, 90) for t in range(2)] for b in range(5)])
    frames[4] = np.random.default_rng(0).integers(0, 256, frames[4].shape)
    released = transforms.Compose(
        [
            transforms.RandomResizedCrop(56),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(image_transforms.MEAN, image_transforms.STD),
        ]
    )
    seeds = [3, 1 << 62, 5, 6, 7]
    state = torch.random.get_rng_state()
    ours = image_transforms.parity(frames, seeds, 56)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is left as it was
    for b, seed in enumerate(seeds):
        torch.manual_seed(seed)
        for t in range(2):
            difference = (ours[b, :, t] - released(Image.fromarray(frames[b, t]))).abs()
            levels = 255 * torch.tensor(image_transforms.STD).view(3, 1, 1) * difference
            assert levels.max() < 1.01 and (levels > 0.01).double().mean() < 0.3, (b, t)
    torch.random.set_rng_state(state)


def test_batched_crops_are_those_of_affine_grid_and_do_not_see_their_batch():
    frames = torch.randint(0, 256, (9, 2, 45, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = image_transforms.crop_boxes(
        torch.rand(9, 2, image_transforms.DRAWS, generator=torch.Generator().manual_seed(1)), 45, 60
    )
    together = image_transforms.crop_and_flip(frames, boxes, 32)
    for b in range(9):
        assert torch.equal(together[b], image_transforms.crop_and_flip(frames[b : b + 1], boxes[b : b + 1], 32)[0])
    top, left, h, w, flip = boxes[2, 1].tolist()
    theta = torch.tensor([[(-w if flip else w) / 60, 0, (2 * left + w) / 60 - 1], [0, h / 45, (2 * top + h) / 45 - 1]])
    grid = torch.nn.functional.affine_grid(theta[None], [1, 3, 32, 32], align_corners=False)
    picture = frames[2, 1].permute(2, 0, 1)[None].float()
    sampled = torch.nn.functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (image_transforms.MEAN, image_transforms.STD))
    torch.testing.assert_close(together[2, :, 1], (sampled[0] / 255 - mean) / std, rtol=1e-4, atol=1e-3)
