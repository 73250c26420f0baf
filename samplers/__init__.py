"""The methods, and their way into ComfyUI. Where to read what:

windows.py, fusion.py   the one idea: overlapping windows of one long latent, predicted apart, fused by weights
cost.py, seeds.py       what a run costs, before it runs; every seed that is derived from another
chart.py                what a schedule does, as plain data for the chart
side_by_side.py, graph_settings.py   several videos beside each other; in what their graphs' settings differ
glc/                    GLC-Diffusion: its Algorithm 1 stands in glc/__init__.py
syncos/                 SynCoS: its Algorithm 1 stands in syncos/__init__.py
prompts/                timelines and structured prompts: text, no sampling
adapters/               one file per way into ComfyUI; adapters/engine.py evaluates windows and knows no method

Each row uses those above it only; ComfyUI is imported in adapters/ alone.
"""
