"""Optimise the pixels of one picture, not a model: Gatys style transfer and DeepDream.

Four ideas, a file each. What is optimised: pixels, `pixels`. Toward what: `objectives`. Seen through what:
`transforms`. By which loop: `loops`. `gatys` and `deepdream` are the two recipes made of them.
"""
