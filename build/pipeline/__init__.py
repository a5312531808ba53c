"""A build: the declared graph of its stages, the artifact store, and the digests of code that its keys hold."""
