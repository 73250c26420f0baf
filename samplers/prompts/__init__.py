"""Prompts of a long video: what is said when. No sampling, and nothing but the standard library."""
