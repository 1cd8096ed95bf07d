"""Gymnasium and PettingZoo environments of the simulated edge. Importing this package registers ddrl_sched/Edge-v0."""

from ddrl_sched.environments.registration import register_all

register_all()
