"""Names and ranges of what loops measure, as the tables of a run folder have them."""

VALIDATION_METRIC = "validation_delay_s"  # mean delay of the greedy policy while it trains (run/validation.py)
ELAPSED_METRIC = "elapsed_s"  # seconds of wall time since the training began, over all processes that worked on it
CURVE_METRICS = (VALIDATION_METRIC, ELAPSED_METRIC)  # what charts of learning are made of
LARGEST_S = 1e9  # seconds of a mean delay
SMALLEST_S = 1e-12  # of a delay in a curve, of which logs are taken
