"""The embedded demo model: its world, weights, training and loader."""
