"""Seeds, rollouts, training, evaluation and the records they leave."""
