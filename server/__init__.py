"""newsdesk.server: what runs while a request waits. Never imports torch or transformers."""
