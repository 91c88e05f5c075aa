"""What can be checked without us: bundles, receipts, checkpoints, in the files they travel in."""
