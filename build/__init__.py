"""newsdesk.build: everything that happens before a request arrives. Nothing here runs while a request waits."""
