"""Clips -> scenes. Each mixer is a pure function of (clips, split, seed, index)."""
