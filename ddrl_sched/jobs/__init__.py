"""A job is a value: settings in, a run folder out."""
