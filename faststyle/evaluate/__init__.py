"""The ruler: losses and LPIPS of repainted photos, and how many steps of optimisation a model is worth.

`photos` chooses what is repainted, `ruler` and `distance` judge it, `curves` holds the optimisation that models are
compared with; `run` is the measurement made of them.
"""
