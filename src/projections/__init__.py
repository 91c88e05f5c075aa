"""The read side: one file per read table, each turning folded state into rows and answering queries."""
