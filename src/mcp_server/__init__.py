"""The edges: everything with a clock, an environment, a network or a user."""
