"""Texts as bytes."""

import os
from collections import Counter

import pytest
import torch

from datasets.core.errors import ManifestError
from datasets.decode.text import one_hot, read_text


def test_a_short_text_is_followed_by_zeros_and_a_long_one_cut(tmp_path):
    path, notes = tmp_path / "a.txt", Counter[str]()
    path.write_bytes(b"\xef\xbb\xbf" + "añb".encode())
    assert bytes(read_text(path, 6, notes)) == "añb".encode() + b"\0\0" and notes["texts_cut"] == 0
    assert bytes(read_text(path, 4, notes)) == "añb".encode() and notes["texts_cut"] == 0
    assert bytes(read_text(path, 2, notes)) == b"a\xc3" and notes["texts_cut"] == 1  # within a character
    hot = one_hot(torch.from_numpy(read_text(path, 6, notes).copy())[None])
    assert hot.shape == (1, 6, 256) and hot.dtype == torch.float32
    assert hot[0, :4].argmax(1).tolist() == list("añb".encode()) and hot.sum(2).tolist() == [[1, 1, 1, 1, 0, 0]]


def test_of_an_endless_text_no_more_is_read_than_is_kept(tmp_path):
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.write(b"word " * 100)
        file.truncate(1 << 40)  # zeros that take no room on the disk
    assert bytes(read_text(path, 10, Counter())) == b"word word "


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file has 0 bytes"),
        (b" \n\t", "nothing but blanks"),
        (b"\xef\xbb\xbf", "nothing but blanks"),
        (b"ab\xff\xfe", "not UTF-8 text (byte 2)"),
        ("w".encode("utf-16"), "not UTF-8 text (byte 0)"),
        (b"ab\xc3", "not UTF-8 text"),
        (b"a\0b", "a byte 0"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "git-lfs pointer"),
    ],
)
def test_what_is_no_text_is_one_line(tmp_path, data, says):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(ManifestError) as error:
        read_text(path, 64, Counter())
    assert says in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(ManifestError, match="give yourself the right"):
        read_text(path, 4, Counter())
