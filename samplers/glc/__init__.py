"""GLC-Diffusion (Ma et al., arXiv 2501.05484): one long video from a short-clip model, without training.

Algorithm 1, line by line, and the function that does it. Where it departs from the paper, the module says so.

| line | what | function |
|---|---|---|
| 1 | z_T: the local noise unit, repeated and shuffled, gives the low frequencies (Eq. 11) | `noise.reinitialise_` |
|   | - FreeNoise's shuffle of the unit | `noise.shuffled` |
|   | - the filter H, and low * H + high * (1 - H) | `noise.low_pass`, `noise.frequency_mix_` |
| 2 | for t = T .. 1: | the sampler that the user chose |
| 3 | step 1, global path: dilated windows over the whole video (Eq. 4-5) | `paths.dilated_windows` |
|   | step 1, local path: windows moved by a random shift (Eq. 6-7) | `windows.local_windows`, `windows.shift_offset` |
| 4 | K, V of each window blended with the first window's (ABAM, Eq. 10) | `anchors.blend_` |
| 5 | step 2: fuse the windows of each path (Eq. 8) | `fusion.normalised`, `fusion.accumulate` |
|   | both paths by gamma(t) (Eq. 9) | `paths.gamma`, `windows.step_paths` |
| 6 | step 3, VMCR: motion vectors of the clean video (Eq. 12) | `motion.motion_pairs` |
|   | the loss of neighbouring ones, in pixels (Eq. 13) and spectra (Eq. 14) | `motion.pair_loss` |
|   | z_{t-1} moved against its gradient (Eq. 15) | `motion.gradient_chunks` |

`windows` and `fusion` are the folder above: the one idea that all methods share. What hangs these functions into
ComfyUI: adapters/engine.py (windows, paths, fusion), attention.py (ABAM), noise.py, vmcr.py.
"""
