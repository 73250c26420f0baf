"""A decode into a file: every format, the graph and the sound in it, and that it goes on after a kill, a full disk, a
cancel, to the same file bit for bit."""

import io
import json
import multiprocessing
import random
import resource
import signal
import threading
import time

import av
import comfy.model_management
import pytest
import torch
from comfy_api.latest import InputImpl
from longtake.nodes.video import NODE, LongTakeDecodeToVideo
from longtake.samplers.adapters import decode_file, video_file
from longtake.samplers.adapters.decoding import Decoding
from longtake.samplers.adapters.video_file import FORMATS
from PIL import Image
from support.tiny_vaes import VAES, built

FRAMES, SEGMENT, SIZE = 22, 16, (2, 4)  # latent frames; pixel frames of a segment here; latent pixels
KILLS = 12
SOUND = {"waveform": torch.sin(torch.arange(44100 * 12) / 20).repeat(1, 2, 1), "sample_rate": 44100}
PROMPT = {"1": {"class_type": "X", "inputs": {"text": "\u00e9"}}}
TAGS = {"workflow": {"nodes": [{"id": 1, "type": "X"}]}, "prompt": PROMPT}
fork = multiprocessing.get_context("fork")  # a process that has loaded all already


@pytest.fixture(autouse=True)
def small(one_thread, monkeypatch):
    monkeypatch.setattr(video_file, "SEGMENT", SEGMENT)
    with torch.inference_mode():
        yield


def latent(frames=FRAMES, size=SIZE):
    return 0.5 * VAES["wan21"].latent(frames, *size)


def decode(folder, format="mp4 (h264)", name="take", z=None, audio=None, progress=lambda done: None):
    """(The file, frames that were taken over)."""
    decoding = Decoding(built("wan21"), latent() if z is None else z)
    kind = FORMATS.get(format)
    target = decode_file.Target(folder, name, decode_file.digest(decoding, (format,), audio), kind)
    final = folder / f"{name}_{f'.{kind.extension}' if kind else ''}"
    return decode_file.decode(NODE, decoding, target, lambda: final, 16, 20, audio, TAGS, progress)


def pictures(path):
    with av.open(str(path)) as file:
        return torch.stack([torch.from_numpy(f.to_ndarray(format="rgb24")) for f in file.decode(video=0)])


def tags(path):
    with av.open(str(path)) as file:
        return {key.lower(): json.loads(value) for key, value in file.metadata.items() if key.lower() in TAGS}


def part(folder):
    (found,) = folder.glob("*.part.mp4")
    return found


def whole(z):
    return (built("wan21").decode(z.clone())[0] * 255).clamp(0, 255).byte()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_the_frames_the_sound_and_the_graph(tmp_path, format):
    z = latent(6, (8, 8))
    expected = whole(z)
    path, _ = decode(tmp_path, format, z=z, audio=SOUND)
    found = pictures(path)
    assert found.shape == expected.shape and tags(path) == TAGS
    difference = (found.float() - expected.float()).abs().mean()
    # random pictures are hard on codecs; another frame's would differ as much as their spread
    assert difference == 0 if format == "mkv (ffv1)" else difference < 0.7 * expected.float().std()
    video = InputImpl.VideoFromFile(str(path))
    assert video.get_frame_rate() == 16 and video.get_duration() == pytest.approx(len(expected) / 16, abs=0.1)
    with av.open(str(path)) as file:
        assert file.streams.audio[0].codec.canonical_name in ("aac", "opus", "flac", "pcm_s16le")
        seconds = sum(frame.samples for frame in file.decode(audio=0)) / file.streams.audio[0].rate
    assert seconds == pytest.approx(len(expected) / 16, abs=0.1)
    assert sorted(tmp_path.iterdir()) == [path]


def test_png_frames_are_the_pixels(tmp_path):
    z = latent(3)
    expected = whole(z)
    folder, _ = decode(tmp_path, "png frames", z=z)
    files = sorted(folder.iterdir())
    with Image.open(files[0]) as first:
        assert {key: json.loads(first.text[key]) for key in TAGS} == TAGS
        assert first.tobytes() == expected[0].numpy().tobytes()
    assert len(files) == len(expected)


def test_core_copies_the_file_without_encoding_again(tmp_path):
    path, _ = decode(tmp_path, audio=SOUND)
    for format, codec in (("auto", "auto"), ("mp4", "h264")):
        copied = tmp_path / f"copied_{format}.mp4"
        InputImpl.VideoFromFile(str(path)).save_to(str(copied), format=format, codec=codec, metadata=TAGS)

        def packets(name):
            with av.open(str(name)) as file:
                return [bytes(packet) for packet in file.demux(video=0)]

        assert packets(copied) == packets(path) and tags(copied) == TAGS


def test_after_many_kills_the_files_are_the_same(tmp_path):
    expected = decode(tmp_path / made(tmp_path, "whole"), audio=SOUND)[0].read_bytes()
    folder, rng, kills, most, went_on = tmp_path / made(tmp_path, "killed"), random.Random(5), 0, 0, 0
    while kills < KILLS:
        done = fork.Value("i", 0)

        def report(frames, done=done):
            done.value = frames

        child = fork.Process(target=decode, args=(folder,), kwargs={"audio": SOUND, "progress": report})
        child.start()
        goal = most + rng.randrange(3 * SEGMENT)
        while child.is_alive() and done.value < goal:
            time.sleep(0.0005)
        time.sleep(rng.random() * 0.02)
        child.kill()
        child.join()
        kills += child.exitcode == -signal.SIGKILL
        if (folder / "take_.mp4").exists():
            assert (folder / "take_.mp4").read_bytes() == expected
            (folder / "take_.mp4").unlink()
            most = 0
            continue
        parts = [video_file.packets_of(path, FORMATS["mp4 (h264)"], (16, 32)) for path in folder.glob("*.part.mp4")]
        found = max((sum(1 for _ in packets) for packets in parts), default=0) // SEGMENT * SEGMENT
        assert found >= most  # what has been whole stays
        went_on += found > most > 0
        most = found
    assert went_on > 1
    path, _ = decode(folder, audio=SOUND)
    assert path.read_bytes() == expected and [p.name for p in folder.iterdir()] == ["take_.mp4"]


def made(folder, name):
    (folder / name).mkdir()
    return name


def within(size, folder, reply):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        decode(folder)
    except OSError as error:
        reply.put(str(error))


def test_a_full_disk_is_one_line_and_what_is_there_can_be_gone_on_with(tmp_path):
    path, _ = decode(tmp_path / made(tmp_path, "whole"))
    expected, folder = path.read_bytes(), tmp_path / made(tmp_path, "full")
    reply = fork.SimpleQueue()
    child = fork.Process(target=within, args=(len(expected) * 2 // 3, folder, reply))
    child.start()
    child.join()
    text = reply.get()
    begin = f"Decode to Video (LongTakeDecodeToVideo): the disk of {folder} is full ("
    assert text.startswith(begin) and "\n" not in text
    assert f"of {4 * FRAMES - 3} frames" in text and str(part(folder)) in text
    assert sum(1 for _ in video_file.packets_of(part(folder), FORMATS["mp4 (h264)"], (16, 32))) >= SEGMENT
    assert not (folder / "take_.mp4").exists()
    path, begun = decode(folder)
    assert begun >= SEGMENT and path.read_bytes() == expected


def test_no_room_for_anything_leaves_nothing(tmp_path):
    reply = fork.SimpleQueue()
    child = fork.Process(target=within, args=(10, tmp_path, reply))
    child.start()
    child.join()
    assert "is full" in reply.get() and [p for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


def test_a_cancelled_decode_can_be_played_and_gone_on_with(tmp_path):
    expected = decode(tmp_path / made(tmp_path, "whole"))[0].read_bytes()
    folder, threads = tmp_path / made(tmp_path, "cancelled"), threading.active_count()

    def cancel(frames):
        if frames > 2 * SEGMENT + 5:
            comfy.model_management.interrupt_current_processing(True)

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        decode(folder, progress=cancel)
    assert len(pictures(part(folder))) > 2 * SEGMENT + 5 and threading.active_count() == threads
    path, begun = decode(folder)
    assert begun == 2 * SEGMENT and path.read_bytes() == expected


@pytest.mark.parametrize("damage", ["cut", "garbage", "another", "empty", "folder"])
def test_a_part_that_is_none_is_not_taken_over(tmp_path, damage):
    path, _ = decode(tmp_path / made(tmp_path, "whole"))
    expected, folder = path.read_bytes(), tmp_path / made(tmp_path, "part")

    def cancel(frames):
        if frames > SEGMENT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(folder, progress=cancel)
    data, name = part(folder).read_bytes(), part(folder)
    if damage == "folder":
        name.unlink()
        name.mkdir()
        with pytest.raises(OSError, match=r"Decode to Video \(LongTakeDecodeToVideo\): .*part.mp4 cannot be written"):
            decode(folder)
        return
    name.write_bytes({"cut": data[:700], "garbage": b"\0\1" * 5000, "empty": b"", "another": OTHER}[damage])
    path, begun = decode(folder)
    assert begun == 0 and path.read_bytes() == expected
    assert [p.name for p in folder.iterdir()] == ["take_.mp4"]


def other():
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=16)
        stream.width = stream.height = 64
        for _ in range(40):
            file.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        file.mux(stream.encode(None))
    return data.getvalue()


OTHER = other()


def test_two_at_a_time_do_not_touch_each_other(tmp_path):
    holding = fork.Event()

    def hold(folder):
        def wait(frames):
            holding.set()
            time.sleep(60)

        decode(folder, progress=wait)

    child = fork.Process(target=hold, args=(tmp_path,))
    child.start()
    try:
        assert holding.wait(30)
        with pytest.raises(ValueError, match="is being written by another ComfyUI"):
            decode(tmp_path)
    finally:
        child.kill()
        child.join()
    decode(tmp_path)  # the system has let go of it


def node(**changes):
    values = {
        "samples": {"samples": VAES["wan21"].latent(3, 2, 2)}, "vae": built("wan21"), "fps": 16.0,
        "filename_prefix": "x", "format": "mp4 (h264)", "crf": 20, "folder": "temp", "window": 64, "overlap": 16,
        "tile_size": 0,
    } | changes  # fmt: skip
    return LongTakeDecodeToVideo.execute(**values)


@pytest.mark.parametrize(("changes", "words"), [
    ({"crf": 60}, "crf must be at most 51 for mp4"), ({"overlap": 40}, "overlap must be at most half of window"),
    ({"tile_size": 64}, "tile_size must be 0 or at least 128"), ({"fps": float("nan")}, "fps"),
    ({"format": "png frames", "audio": SOUND}, "audio: pictures hold no sound"),
    ({"audio": {"waveform": torch.zeros(1, 4, 9), "sample_rate": 8}}, "audio: 4 channels"),
    ({"samples": {"samples": torch.zeros(1, 4, 8, 8)}}, "samples: a latent of the shape"),
])  # fmt: skip
def test_what_cannot_be_is_named(changes, words):
    with pytest.raises(ValueError, match=rf"Decode to Video \(LongTakeDecodeToVideo\): {words}"):
        node(**changes)


def test_a_missing_encoder_is_named(monkeypatch):
    monkeypatch.setitem(FORMATS, "mp4 (h265)", video_file.Format("mp4", "mp4", "libnothing", "yuv420p", "aac", 51))
    with pytest.raises(ValueError, match=r"format: mp4 \(h265\) needs the encoder libnothing"):
        node(format="mp4 (h265)")
