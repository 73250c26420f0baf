"""ComfyUI's ways in, one file each.

engine      the context handler: evaluates a video window by window, and fuses
window      one window as core's IndexListContextWindow
hooks       what a method can hook into while the engine evaluates
conds       the conditioning of one window
memory      what core reserves, how many windows go into one model call
steps       where a run stands; what it decides once
core_samplers, video_tokens, latents    tables of core's samplers, models and latent formats
preview, progress                       the filmstrip, a line of text on the node
attention, anchor_store   ABAM (glc/anchors.py) as a path hook
noise       NOISE objects (glc/noise.py)
vmcr        a SAMPLER that refines between steps (glc/motion.py)
syncos      a SAMPLER that couples (syncos/)
checkpoint  a SAMPLER, or a patch of a MODEL, whose runs are kept and resumed
replay, run_digest, run_files, run_folders   what of a run is needed, which run it is, its files, all runs' folders
references, ltx_shift    frames in the latent before the video's own; LTX-Video's noise shift
decoding, encoding       a video through any VAE in pieces of time: vae_streams, vae_twin, vae_windows, vae_pieces
decode_file, video_file, video_read, png_frames   files that are written piece by piece, and read
keyframes   images on frames, for models that take them (../keyframes.py)
side_by_side   several videos in one file, and a contact sheet
file_lock   the system's lock on a file
"""
