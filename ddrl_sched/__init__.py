"""ddrl_sched: schedulers for AI-generated-content tasks on collaborating edge servers, compared fairly."""
