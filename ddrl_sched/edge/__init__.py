"""The world: physics, published rules, scenarios and workloads. Knows nothing of schedulers, torch or Hydra."""
