"""Reinforcement learning on arrays, all learners stacked. No word of edge computing in here."""
