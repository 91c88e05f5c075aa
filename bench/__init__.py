"""What the figures in docs/performance.md were measured with: ``python -m bench NAME``."""
