"""What a video is worth in numbers, on pixels alone: pure functions, no ComfyUI, no weights.

Frames are [n, H, W, 3] in 0..1 (IMAGE), times pixel frames. Names and formulas follow VBench (arXiv 2311.17982, code
0.1.5) where it has them; what differs from it, or is the pack's own, says so.
"""
