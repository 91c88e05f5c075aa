"""What an operator or auditor runs: one module a command, and what they share."""
