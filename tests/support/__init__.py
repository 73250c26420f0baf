"""What test modules share; tests/conftest.py puts tests/ on sys.path: `from support import zoo`. No test module imports
another.

paths           where things lie
compare         how far two tensors are apart
windows         windows on any model: ours, core's, with anchors, coupled
zoo, zoo_runs   every video class of the running core, tiny and random, and sampling runs of them
window_inputs   the classes with more inputs than a prompt, and what their nets get in each window
tiny_wan        the zoo's Wan on latents of 4x4
tiny_cogvideox  the CogVideoX variants as diffusers folders
noise, motion   long noise that must be standard; the motion loss as the paper prints it
refusals        what core and the pack's nodes say of a graph before it runs
graphs          the example graphs, and what has been released
browser         ComfyUI in a real Chromium; timeline_page: the timeline widget as a user sees it
sources         the pack's own imports, read without running anything
"""
