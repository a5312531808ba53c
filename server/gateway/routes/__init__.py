"""The routes, a file for each protocol, thin over the data plane."""
