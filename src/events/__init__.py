"""The write side: what can happen to a task or a conversation, and what has happened."""
