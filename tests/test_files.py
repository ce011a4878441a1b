"""The file layer: whole reads, atomic replacement, appending and locks; every fault is one line and loses nothing."""

import os
import stat
import threading

import pytest

from minscl.append_file import AppendFile
from minscl.errors import InputError
from minscl.files import lock_folder, output_path, path_kind, read_bytes, read_text, replace_file


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def write(path, text="new"):
    with replace_file(path) as file:
        file.write(text)


def test_new_files_are_private_and_modes_stay(tmp_path):
    """Guards notes that every user of the machine can read, and a private file that an overwrite opens to all."""
    write(tmp_path / "new")
    assert mode(tmp_path / "new") == 0o600
    for permissions in (0o640, 0o600, 0o666):
        (tmp_path / "old").write_text("old")
        (tmp_path / "old").chmod(permissions)
        write(tmp_path / "old")
        assert (mode(tmp_path / "old"), (tmp_path / "old").read_text()) == (permissions, "new")
    appended = AppendFile(tmp_path / "log")
    appended.append(b"x\n")
    appended.close()
    assert mode(tmp_path / "log") == 0o600


def test_a_symlink_stays_one(tmp_path):
    """Guards a link, such as one to a larger disk, that the first overwrite replaces by a file."""
    (tmp_path / "disk").mkdir()
    for name in ("there", "absent"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk" / "there").write_text("old")
    for name in ("there", "absent"):
        write(tmp_path / name)
        assert (tmp_path / name).is_symlink() and (tmp_path / "disk" / name).read_text() == "new"


def test_what_is_no_regular_file_is_refused(tmp_path):
    """Guards /dev/null replaced by a file (as root), a pipe that nobody reads, a folder's traceback."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", "/dev/null", "/dev/full"):
        for use in (write, AppendFile, read_bytes, output_path):
            with pytest.raises(InputError, match=str(path)):
                use(path)
    assert path_kind("/dev/null") == path_kind(tmp_path / "pipe") == "other"


@pytest.mark.parametrize(
    "name",
    ["x" * 300, "new/" + "x" * 300, "a\0b", "file/below"],
    ids=["long", "long in a new folder", "zero byte", "below a file"],
)
def test_impossible_names_are_one_line(name, tmp_path):
    """Guards the OSError and ValueError that Path.exists raises."""
    (tmp_path / "file").write_text("x")
    for use in (write, AppendFile, read_bytes, output_path):
        with pytest.raises(InputError):
            use(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["replace", "fsync", "chmod", "open"])
def test_any_failure_leaves_the_previous_file(call, tmp_path, monkeypatch):
    """Guards a traceback for anything but a full disk, and an incomplete or temporary file left behind."""
    (tmp_path / "x").write_text("old")

    def fail(*arguments, **keywords):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(f"os.{call}", fail)
    with pytest.raises(InputError, match="x: cannot be written .Stale file handle."):
        write(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_failed_append_is_taken_back(tmp_path, monkeypatch):
    """Guards half a line left in a log by a full disk, and close() repeating the failed write with a traceback."""
    log = AppendFile(tmp_path / "log")
    log.append(b"first\n")
    whole_write = os.write
    monkeypatch.setattr("os.write", lambda fd, data: whole_write(fd, data[:3]) if len(data) > 3 else fail())

    def fail():
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        log.append(b"second\n")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"first\n"


def test_a_file_has_one_writer(tmp_path):
    """Guards two runs that write one log, and an empty file left by a run that wrote nothing."""
    log = AppendFile(tmp_path / "log")
    with pytest.raises(InputError, match="another run"):
        AppendFile(tmp_path / "log")
    log.close()
    assert not (tmp_path / "log").exists()


def test_a_folder_has_one_run(tmp_path):
    """Guards two trainings that mix in one folder, a lock that leaves a file behind, and "File exists" for a file."""
    with lock_folder(tmp_path / "run"):
        with pytest.raises(InputError, match="another run"), lock_folder(tmp_path / "run"):
            pass
        assert list((tmp_path / "run").iterdir()) == []
    with lock_folder(tmp_path / "run"):
        pass
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(InputError, match="note.txt: not a folder; name a folder"), lock_folder(tmp_path / "note.txt"):
        pass


def test_reading_is_bounded_and_a_signature_is_no_text(tmp_path):
    """Guards memory filled by a huge file, and the byte-order mark of Windows editors inside a note."""
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfna\xc3\xafve\r\n")
    assert read_text(tmp_path / "x") == "naïve\r\n"
    with pytest.raises(InputError, match="larger than"):
        read_bytes(tmp_path / "x", limit=9)
    (tmp_path / "x").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="byte 3 is not UTF-8"):
        read_text(tmp_path / "x")


def test_a_pipe_does_not_hang(tmp_path):
    """Guards a read that waits for a writer that never comes."""
    os.mkfifo(tmp_path / "pipe")
    errors = []

    def read():
        try:
            read_bytes(tmp_path / "pipe")
        except InputError as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert errors and not thread.is_alive()


def test_a_read_only_file_is_not_replaced(tmp_path, monkeypatch):
    """Guards another user's read-only file in a folder that anybody may write: renaming over it would succeed."""
    (tmp_path / "x").write_text("old")
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: allowed(path, mode) and os.path.isdir(path))  # root may write
    with pytest.raises(InputError, match="x: the file is read-only"):
        write(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "old"
