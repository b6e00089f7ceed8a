"""Files that are written whole, whatever is in their place."""

import os
import threading

import pytest

from itp._util.files import write_bytes, write_text


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    write_text(path, "first")
    with path.open() as before:
        write_bytes(path, b"sec", memoryview(b"ond"))
        assert before.read() == "first"
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("before")
    link = tmp_path / "link"
    link.symlink_to("folder/file")
    write_text(link, "after")
    assert link.is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "after"
    broken = tmp_path / "broken"
    broken.symlink_to("folder/new")
    write_text(broken, "new")
    assert (tmp_path / "folder" / "new").read_text() == "new"


def test_a_pipe_is_written_to(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    received = []
    reader = threading.Thread(target=lambda: received.append(path.read_text()))
    reader.start()
    write_text(path, "text")
    reader.join(60)
    assert received == ["text"]
    assert path.is_fifo()


def test_a_device_stays_one():
    write_text("/dev/null", "text")
    assert not os.path.isfile("/dev/null")


def test_a_name_of_any_length_that_the_system_takes(tmp_path):
    path = tmp_path / ("x" * 255)
    write_text(path, "text")
    assert path.read_text() == "text"


def test_what_utf_8_cannot_hold(tmp_path):
    write_text(tmp_path / "file", "a\udcff\N{MINUS SIGN}")
    assert (tmp_path / "file").read_bytes() == b"a\\udcff\xe2\x88\x92"


def test_errors_name_the_place(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "no" / "file", tmp_path / ("x" * 300)):
        with pytest.raises(OSError, match=str(path)):
            write_text(path, "text")
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == []
