"""A decode into a file: every format, the graph and the sound in it, and that it goes on after a kill, a full disk, a
cancel, to the same file bit for bit."""

import hashlib
import io
import itertools
import json
import random
import signal
import threading
import time

import av
import comfy.model_management
import pytest
import torch
from comfy_api.latest import InputImpl
from longtake.nodes.video import LongTakeDecodeToVideo
from longtake.samplers.adapters import video_file
from longtake.samplers.adapters.decoding import Decoding
from longtake.samplers.adapters.video_file import FORMATS
from PIL import Image
from support.children import context, ended, error_of, started, wait_until
from support.decodes import FRAMES, SEGMENT, SOUND, TAGS, decode, holding, in_child, latent, pictures, with_room
from support.tiny_vaes import VAES, built

KILLS = 12


@pytest.fixture(autouse=True)
def small(one_thread, monkeypatch):
    monkeypatch.setattr(video_file, "SEGMENT", SEGMENT)
    with torch.inference_mode():
        yield


def tags(path):
    with av.open(str(path)) as file:
        return {key.lower(): json.loads(value) for key, value in file.metadata.items() if key.lower() in TAGS}


def part(folder):
    (found,) = folder.glob("*.part.mp4")
    return found


def same(path, expected):
    """Whether the file is the bytes `expected`; if not, whether the VAE's frames or their encoding differ."""
    found = path.read_bytes()
    if found != expected:
        at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), "the end")
        decoding = Decoding(built("wan21"), latent())
        frames = torch.cat(list(decoding.frames(0)))
        starts = range(0, len(frames), SEGMENT)
        equal = all(torch.equal(torch.cat(list(decoding.frames(i))), frames[i:]) for i in starts)
        what = "the VAE's frames are the same, the encoder's work differs" if equal else "the VAE's frames differ"
        pytest.fail(f"{len(found)} bytes, not {len(expected)}; other from byte {at} on; {what}")
    return True


@pytest.mark.parametrize("format", FORMATS)
def test_the_rates_that_an_encoder_takes(tmp_path, format):
    kind = FORMATS[format]
    for rate in (0.01, min(kind.fastest, 1000.0)):
        writer = video_file.Writer(tmp_path / "rates", kind, (128, 128), rate, 20)
        writer.add(torch.rand(2, 128, 128, 3))
        writer.close()
        assert (tmp_path / "rates").stat().st_size > 0
    if kind.fastest < 1000:
        writer = video_file.Writer(tmp_path / "rates", kind, (128, 128), kind.fastest + 1, 20)
        with pytest.raises(ValueError):
            writer.add(torch.rand(2, 128, 128, 3))
        writer.disk.file.close()


@pytest.mark.parametrize("format", [format for format, kind in FORMATS.items() if kind.container == "mp4"])
@pytest.mark.parametrize("frames", range(1, 5))
def test_a_segment_of_few_frames_goes_on_where_the_one_before_ended(tmp_path, format, frames):
    writer = video_file.Writer(tmp_path / "few", FORMATS[format], (128, 128), 16, 20)
    writer.add(torch.rand(SEGMENT + frames, 128, 128, 3, generator=torch.Generator().manual_seed(frames)))
    writer.close()
    with av.open(str(tmp_path / "few")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    long = packets[0].duration
    assert sorted(packet.pts for packet in packets) == [i * long for i in range(SEGMENT + frames)]
    gaps = {(b.dts - a.dts) / long for a, b in itertools.pairwise(packets)}
    assert gaps <= ({1, 3} if "h264" in format else {1})  # x264 decodes an end of one or two frames when it is shown


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


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_frames_make_the_same_file(tmp_path, format):
    """x264 reads memory that nobody has written, where it may use AVX-512; FFmpeg's conversion of 16 bits does, too."""
    size, files = (144, 240), []
    coarse = torch.rand(1, 3, 8, 36, 60, generator=torch.Generator().manual_seed(1))
    frames = torch.nn.functional.interpolate(coarse, (2 * SEGMENT, *size), mode="trilinear")[0].movedim(0, -1)
    for _ in range(4):
        writer = video_file.Writer(tmp_path / "file", FORMATS[format], size, 16, 20)
        writer.add(frames)
        writer.close()
        files.append(hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest())
    assert files == files[:1] * 4
    found = pictures(tmp_path / "file").float() / 255
    assert (found - frames).abs().mean() < 0.06 and (found - frames).mean((0, 1, 2)).abs().max() < 0.01


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
        done = context.Value("i", 0, lock=False)
        child, goal = started(in_child, folder, done), most + rng.randrange(3 * SEGMENT)
        wait_until(lambda done=done, goal=goal: done.value >= goal, child)
        time.sleep(rng.random() * 0.02)
        child.kill()
        code = ended(child)
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        if (folder / "take_.mp4").exists():
            assert same(folder / "take_.mp4", expected)
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
    assert same(path, expected) and [p.name for p in folder.iterdir()] == ["take_.mp4"]


def made(folder, name):
    (folder / name).mkdir()
    return name


def test_a_full_disk_is_one_line_and_what_is_there_can_be_gone_on_with(tmp_path):
    path, _ = decode(tmp_path / made(tmp_path, "whole"))
    expected, folder = path.read_bytes(), tmp_path / made(tmp_path, "full")
    text = error_of(with_room, folder, len(expected) * 2 // 3)
    begin = f"OSError: Decode to Video (LongTakeDecodeToVideo): the disk of {folder} is full ("
    assert text.startswith(begin) and "\n" not in text
    assert f"of {4 * FRAMES - 3} frames" in text and str(part(folder)) in text
    assert sum(1 for _ in video_file.packets_of(part(folder), FORMATS["mp4 (h264)"], (16, 32))) >= SEGMENT
    assert not (folder / "take_.mp4").exists()
    path, begun = decode(folder)
    assert begun >= SEGMENT and same(path, expected)


def test_no_room_for_anything_leaves_nothing(tmp_path):
    assert "is full" in error_of(with_room, tmp_path, 10)
    assert [p for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


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
    assert begun == 2 * SEGMENT and same(path, expected)


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
    assert begun == 0 and same(path, expected)
    assert [p.name for p in folder.iterdir()] == ["take_.mp4"]


def cut_off(folder, format="mp4 (h264)", name="take"):
    """A part of three segments and a little more."""

    def cancel(frames):
        if frames > 3 * SEGMENT + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(folder, format, name, progress=cancel)
    (found,) = folder.glob("*.part*")
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_zeros_that_a_power_cut_leaves_are_not_taken_over(tmp_path, format):
    """The file has its length, but its end was never written."""
    path, _ = decode(tmp_path / made(tmp_path, "whole"), format)
    shown, expected, folder = pictures(path), path.read_bytes(), tmp_path / made(tmp_path, "cut")
    found = cut_off(folder, format)
    data = found.read_bytes()
    for share in (0.5, 0.8):
        kept = int(len(data) * share)
        found.write_bytes(data[:kept] + bytes(len(data) - kept))
        path, begun = decode(folder, format)
        assert begun < 3 * SEGMENT, share
        if format == "mp4 (h265)":  # writes small pictures in other bytes every now and then
            assert (pictures(path).float() - shown.float()).abs().mean() < 3  # of 255; 1.2 was seen, zeros: far more
        else:
            assert same(path, expected), share


def test_pictures_that_a_power_cut_has_emptied_are_made_again(tmp_path):
    whole, _ = decode(tmp_path / made(tmp_path, "whole"), "png frames")
    folder = tmp_path / made(tmp_path, "cut")
    found = cut_off(folder, "png frames")
    first, second = found / "frame_000020.png", found / "frame_000030.png"
    first.write_bytes(first.read_bytes()[:60])
    second.write_bytes(b"")
    made_again, begun = decode(folder, "png frames")
    assert begun == 20
    for picture in sorted(whole.iterdir()):
        assert (made_again / picture.name).read_bytes() == picture.read_bytes()


@pytest.mark.parametrize("name", ["n" * 240, "\u9577" * 80], ids=["ascii", "cjk"])
def test_a_name_may_be_as_long_as_the_disk_takes_it(tmp_path, name):
    expected = decode(tmp_path / made(tmp_path, "whole"))[0].read_bytes()
    folder = tmp_path / made(tmp_path, "long")
    cut_off(folder, name=name)
    path, begun = decode(folder, name=name)
    assert begun == 3 * SEGMENT and path.name == f"{name}_.mp4" and same(path, expected)
    with pytest.raises(OSError, match=r"Decode to Video \(LongTakeDecodeToVideo\): filename_prefix: "):
        decode(folder, name="n" * 260)
    assert list(folder.iterdir()) == [path]


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
    begun = context.Event()
    child = started(holding, tmp_path, begun)
    try:
        wait_until(begun.is_set, child)
        with pytest.raises(ValueError, match="is being written by another ComfyUI"):
            decode(tmp_path)
    finally:
        child.kill()
        ended(child)
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
