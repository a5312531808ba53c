"""Texts that come as a stream: read from a broker, classified, answered at a broker; nothing that came is lost."""
