"""The machine that servers run on: addresses, processes, traces, and the state of the servers that run."""
