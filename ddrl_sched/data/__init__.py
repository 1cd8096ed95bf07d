"""Data that travels with the package: real traces, topologies, device profiles (licences beside them)."""
