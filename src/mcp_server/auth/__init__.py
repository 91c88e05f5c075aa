"""Who calls: tokens checked and issued, and the identity they give."""
