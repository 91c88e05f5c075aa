"""The tools: what an agent may ask for, each a class of its arguments that knows how to answer."""
