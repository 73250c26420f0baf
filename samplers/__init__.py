"""Sampling methods: maths on plain tensors, and the adapters that hang them into ComfyUI."""
