"""Schedulers: rules without learning and the learned family. They see a View and answer with a Decision."""
