"""Score files of rows without a server: the same answers, in process, on all cores or on a cluster."""
