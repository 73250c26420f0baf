"""Video files: a latent decoded into one, piece by piece, and one encoded into a latent."""

import functools
import logging
from pathlib import Path

import comfy.utils
import folder_paths
from comfy.cli_args import args

from ..samplers.adapters import decode_file, encoding, video_file
from ..samplers.adapters.decoding import Decoding, in_pieces, videos
from ..samplers.adapters.video_read import Reader
from ._api import InputImpl, io, ui
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo, Float

NODE, ENCODE = "Decode to Video (LongTakeDecodeToVideo)", "Encode Video (LongTakeEncodeVideo)"
FOLDERS = {"output": folder_paths.get_output_directory, "temp": folder_paths.get_temp_directory}


def crf_of_codec(format, crf):
    kind = video_file.FORMATS.get(format)
    if kind and kind.crf is not None and crf > kind.crf:
        raise ValueError(f"crf must be at most {kind.crf} for {format}, not {crf}")


def fps_of_codec(format, fps):
    kind = video_file.FORMATS.get(format)
    if kind and fps > kind.fastest:
        raise ValueError(f"fps must be at most {kind.fastest:g} for {format}, not {fps:g}")


def windows_overlap(window, overlap):
    if 2 * overlap > window:
        raise ValueError(f"overlap must be at most half of window ({window // 2} frames), not {overlap}")


def graph_tags(hidden) -> dict:
    """The container's metadata, as core's Save Video writes it."""
    if args.disable_metadata:
        return {}
    tags = dict(hidden.extra_pnginfo or {})
    return tags | ({"prompt": hidden.prompt} if hidden.prompt is not None else {})


class LongTakeDecodeToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeDecodeToVideo",
            display_name="Decode to Video",
            category="LongTake",
            **described(
                "Decodes a latent of any length straight into a video file: in pieces of time, with the state that the "
                "VAE carries from one to the next, so that the frames are those of VAE Decode and the memory does not "
                "grow with the length. What is written can be played while it grows, and a decode that was cancelled "
                "or killed goes on when the same graph is queued again.",
                "VAE decode", "save video", "stream", "out of memory", "OOM", "tiled",
            ),
            inputs=[
                io.Latent.Input("samples", tooltip="The video's latent, of any length. A batch gives a file for each "
                                "video."),
                io.Vae.Input("vae", tooltip="The VAE of the model that made the latent. Exact: Wan, LTX (newer "
                             "ComfyUI), CogVideoX, Mochi, Cosmos, image VAEs. HunyuanVideo's and unknown ones: "
                             "windows."),
                Float("fps", default=16.0, min=0.01, max=1000.0, step=0.01,
                      tooltip="Frames per second of the file; 8 to 30. The rate that the model was trained at: Wan 16, "
                      "CogVideoX 8, LTX and HunyuanVideo 24."),
                io.String.Input("filename_prefix", default="video/LongTake",
                                tooltip="Folder and name of the file below the folder; %date:yyyy-MM-dd% and other "
                                "fields as in Save Video."),
                Combo("format", options=decode_file.formats(), default="mp4 (h264)",
                      tooltip="File and codec. h264 plays everywhere; h265 and av1 are smaller; ffv1 is lossless; "
                      "prores is for editing; png frames: a folder of pictures, with nothing for the VIDEO output."),
                io.Int.Input("crf", default=20, min=0, max=63,
                             tooltip="Quality: smaller is better and larger. h264, h265: 15 to 28 of 51; av1, vp9: 20 "
                             "to 40 of 63. ffv1, prores and png have none."),
                Combo("folder", options=list(FOLDERS), default="output",
                      tooltip="output: keep the file. temp: for a Save Video behind this node, which copies the file "
                      "without encoding again; emptied when ComfyUI starts."),
                io.Int.Input("window", default=64, min=8, max=4096,
                             tooltip="Frames decoded at once where the VAE sees a whole video (HunyuanVideo) or is "
                             "unknown; 32 to 128. Shorter videos are decoded whole. No effect on exact VAEs."),
                io.Int.Input("overlap", default=16, min=1, max=1024,
                             tooltip="Frames that two such windows share and are blended over; 8 to 32, at most half "
                             "of window."),
                io.Int.Input("tile_size", default=0, min=0, max=4096, step=32,
                             tooltip="Side of a tile in pixels, where the memory is too short for a whole picture; 256 "
                             "to 512, a quarter of it shared. 0: whole pictures, and tiles of 256 only when the memory "
                             "runs out, as VAE Decode does."),
                io.Audio.Input("audio", optional=True, tooltip="Sound track, cut to the video's length."),
            ],
            outputs=[io.Video.Output(display_name="video", is_output_list=True)],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, overlap):
        return verdict(cls, NODE, crf_of_codec, fps_of_codec, windows_overlap, tile_of_use, overlap=overlap)

    @classmethod
    @bounded(NODE)
    def execute(
        cls, samples, vae, fps, filename_prefix, format, crf, folder, window, overlap, tile_size, audio=None
    ) -> io.NodeOutput:
        try:
            crf_of_codec(format, crf)
            fps_of_codec(format, fps)
            windows_overlap(window, overlap)
            tile_of_use(tile_size)
            tracks = sound(audio)
            kind = video_file.FORMATS.get(format)
            lacking = video_file.missing(kind, audio is not None) if kind else None
            if lacking:
                raise ValueError(f"format: {format} needs the encoder {lacking}, which this PyAV has not; mp4 (h264)?")
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        if kind is None and audio is not None:
            raise ValueError(f"{NODE}: audio: pictures hold no sound; choose another format than {format}")
        latents = videos(NODE, samples, vae)
        files = []
        for number, latent in enumerate(latents):
            rate = vae.upscale_index_formula[0] if vae.latent_dim == 3 else 1
            decoding = Decoding(vae, latent, max(2, window // rate), max(1, overlap // rate), tile_size)
            if not decoding.exact:
                logging.info(
                    "%s: this VAE is decoded in windows of %d frames, %d shared: the frames are blended there, and "
                    "differ a little from those of a whole decode.", NODE, window, overlap)
            track = tracks[min(number, len(tracks) - 1)] if tracks else None
            files.append(written(cls, decoding, kind, fps, filename_prefix, format, crf, folder, track))
        shown = [ui.SavedResult(path.name, sub, io.FolderType(folder)) for path, sub in files]
        preview = ui.PreviewVideo(shown) if kind and kind.shown else None
        if kind is None:
            return io.NodeOutput(block_execution=f"{NODE}: png frames are a folder, not a VIDEO; choose another format")
        return io.NodeOutput([InputImpl.VideoFromFile(str(path)) for path, _ in files], ui=preview)


def tile_of_use(tile_size):
    if 0 < tile_size < 128:
        raise ValueError(f"tile_size must be 0 or at least 128, not {tile_size}")


def sound(audio) -> list[dict]:
    """The sound tracks of an AUDIO, one per video of a batch. Raises ValueError."""
    if audio is None:
        return []
    waves, rate = audio["waveform"], audio["sample_rate"]
    if waves.shape[1] not in video_file.Audio.LAYOUTS:
        raise ValueError(f"audio: {waves.shape[1]} channels; a video takes 1, 2 or 6")
    return [{"waveform": wave[None], "sample_rate": rate} for wave in waves]


def written(cls, decoding, kind, fps, prefix, format, crf, folder, audio) -> tuple[Path, str]:
    """(The file of one video, its subfolder)."""
    height, width = decoding.size
    place = functools.partial(folder_paths.get_save_image_path, prefix, FOLDERS[folder](), width, height)
    full, name, _, subfolder, _ = place()
    mark = decode_file.digest(decoding, (format, crf, fps), audio)
    target = decode_file.Target(Path(full), name, mark, kind)
    bar = comfy.utils.ProgressBar(decoding.count)

    def final():
        counter = place()[2]
        return Path(full) / f"{name}_{counter:05}_{f'.{kind.extension}' if kind else ''}"

    path, begun = decode_file.decode(
        NODE, decoding, target, final, fps, crf, audio, graph_tags(cls.hidden), bar.update_absolute)
    if begun:
        logging.info("%s: went on from frame %d of an earlier decode.", NODE, begun)
    return path, subfolder


class LongTakeEncodeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeEncodeVideo",
            display_name="Encode Video",
            category="LongTake",
            **described(
                "Encodes a video file of any length into a latent, in pieces of time: the file's frames are "
                "never all in memory. The other way round: Decode to Video.",
                "VAE encode", "load video", "video to latent", "stream",
            ),
            inputs=[
                io.Video.Input("video", tooltip="The video, from Load Video or any node with a VIDEO output."),
                io.Vae.Input("vae", tooltip="The VAE of the model that is to take the latent. Exact: Wan, LTX (newer "
                             "ComfyUI), CogVideoX, image VAEs; the others: windows."),
                io.Int.Input("width", default=0, min=0, max=16384, step=8,
                             tooltip="Width in pixels to scale to, cut from the middle where the sides' ratio "
                             "differs; 0: as the file has it."),
                io.Int.Input("height", default=0, min=0, max=16384, step=8,
                             tooltip="Height in pixels to scale to; 0: as the file has it. Set both or none."),
                io.Int.Input("start_frame", default=0, min=0, max=10_000_000,
                             tooltip="Frames at the beginning to leave out; 0: none."),
                io.Int.Input("frames", default=0, min=0, max=10_000_000,
                             tooltip="Frames to encode; 0: all that follow. What does not fill a latent frame at the "
                             "end is left out: Wan, CogVideoX and HunyuanVideo take 4n + 1 frames, LTX 8n + 1."),
                io.Int.Input("window", default=64, min=8, max=4096,
                             tooltip="Frames encoded at once where the VAE sees a whole video or is unknown; 32 to "
                             "128. No effect on exact VAEs."),
                io.Int.Input("overlap", default=16, min=1, max=1024,
                             tooltip="Frames that two such windows share; 8 to 32, at most half of window."),
            ],
            outputs=[
                io.Latent.Output(display_name="samples"),
                io.Float.Output(display_name="fps"),
                io.Int.Output(display_name="frames"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, overlap):
        return verdict(cls, ENCODE, windows_overlap, both_sides, overlap=overlap)

    @classmethod
    @bounded(ENCODE)
    def execute(cls, video, vae, width, height, start_frame, frames, window, overlap) -> io.NodeOutput:
        vae.throw_exception_if_invalid()
        try:
            reader = Reader(video, start_frame, (height, width) if width else None)
        except (ValueError, OSError) as error:  # PyAV's are of both kinds
            raise ValueError(f"{ENCODE}: video: this VIDEO cannot be read: {error}") from error
        try:
            windows_overlap(window, overlap)
            both_sides(width, height)
            in_pieces(vae)
            count = min(frames or reader.count, reader.count)
            if count < 1:
                raise ValueError(f"start_frame: the video has {reader.count + start_frame} frames, none from "
                                 f"{start_frame} on")  # fmt: skip
            rate = vae.upscale_index_formula[0] if vae.latent_dim == 3 else 1
            count = encoding.kept(vae, count)
            bar = comfy.utils.ProgressBar(count)
            latent = encoding.encode(
                vae, count, reader.read, bar.update_absolute, max(2, window // rate), max(1, overlap // rate))
        except ValueError as error:
            raise ValueError(f"{ENCODE}: {error}") from error
        finally:
            reader.close()
        return io.NodeOutput({"samples": latent}, reader.rate, count)


def both_sides(width, height):
    if bool(width) != bool(height):
        raise ValueError(f"width and height: set both or none, not {width} and {height}")


NODES = [LongTakeDecodeToVideo, LongTakeEncodeVideo]
