"""SynCoS: Synchronized Coupled Sampling (arXiv 2503.08605), one subject through the several events of a long video.

Algorithm 1, line by line, and the function that is it. `coupling.sample` reads like the algorithm from top to bottom;
nothing here knows ComfyUI, whose side of it is samplers/adapters/syncos.py.

| Algorithm 1 | here | where we differ |
|---|---|---|
| for t = 1000 to 0 | `coupling.sample` | over the sampler's own noise levels |
| TakeChunk (i = 0 .. N-1) | `csd.take` | the last chunk is moved back, never shortened |
| DiffForward, DDIM, Fusion: x0' | `coupling.Step` (fused) | the window engine's |
| if t > t_min | `coupling.coupled_steps` | a place in the schedule, and at most max_coupled steps |
| eps_base ~ N(0, I) | `coupling.noise_of` | fixed for stages 2 and 3 of the step, as in the paper |
| for iter = 1 to iters | `coupling.couple` | |
| B random chunks of x0' | `coupling.picked_chunks` | random, or evenly spread |
| AddNoise, same t, eps_base | `coupling.Step` (renoise) | |
| DiffForward with c_i, t | `coupling.Step` (predict) | with guidance, or with cond_only without |
| gradient of L_CSD (Eq. 3) | `csd.kernel`, `csd.csd_direction` | the scores of all chunks, a kernel that repels |
| Fusion of the gradients | `csd.add_direction` | |
| SGD update of x0' | `coupling.new_optimizer`, `coupling.descend` | AdamW as in Appendix B, or SGD |
| its learning rate | `coupling.step_lr` | falls where a step has more signal than the paper's |
| x_{t-1} = DDIM(x0', eps_base, t) | `coupling.sample` | after t_min with the noise that x_t holds |
| what it costs | `coupling.evaluations` | not in the paper |

The paper's derivations, misprints and what they were settled to stand in the docstrings of `coupling` and `csd`.
"""
