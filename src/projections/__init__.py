"""The read side: a file per read table, which turns folded state into rows and answers queries."""
