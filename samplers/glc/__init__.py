"""GLC-Diffusion (Ma et al., arXiv 2501.05484): one long video from a short-clip model, without training.

Algorithm 1 by the paper's line numbers (1 and 2 are its inputs and outputs), and the function that does each. Where it
departs from the paper, the module says so.

| line | what | function |
|---|---|---|
| 3-4 | step 1: the local noise unit and the global noise | `adapters.noise.ReinitNoise.generate_noise` |
| 5 | NoiseShuffle: the unit, repeated and shuffled (FreeNoise) | `noise.shuffled`, `noise.reinitialise_` |
| 6 | FreqFusion: its low frequencies, the global high ones (Eq. 11) | `noise.low_pass`, `noise.frequency_mix_` |
| 7 | for t = T .. 1 | the sampler that the user chose |
| 9 | step 2: F_global, dilated windows over the whole video (Eq. 4-5) | `paths.dilated_windows` |
| 14 | F_local, windows moved by a random shift (Eq. 6-7) | `windows.local_windows`, `windows.shift_offset` |
| 10-12, 15-17 | the model phi on each window; in its attention ABAM (Eq. 10) | `anchors.blend_` |
| 13, 18 | collect the windows of a path, T_global and T_local (Eq. 8) | `fusion.normalised`, `fusion.accumulate` |
| 19 | z_{t-1} = gamma T_global + (1 - gamma) T_local (Eq. 9) | `paths.gamma`, `windows.step_paths` |
| 21 | step 3, VMCR: motion vectors of the clean video (Eq. 12) | `motion.motion_pairs` |
| 22 | l_motion of neighbouring ones, in pixels (Eq. 13) and spectra (Eq. 14) | `motion.pair_loss` |
| 23 | z_{t-1} moved against its gradient (Eq. 15) | `motion.gradient_chunks` |

`windows` and `fusion` are the folder above: the one idea that all methods share. What hangs these functions into
ComfyUI: adapters/engine.py (windows, paths, fusion), attention.py (ABAM), noise.py, vmcr.py.
"""
