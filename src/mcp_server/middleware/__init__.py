"""What stands between the network and the tools: host, origin, size, token, rate, in that order."""
