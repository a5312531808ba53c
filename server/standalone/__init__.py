"""newsdesk.server.standalone: the ensemble behind a small HTTP server of Python's own, for devices without Triton.

Needs what newsdesk.server.runtime needs, and nothing else. Runs on Python 3.10, which JetPack 6 has, and newer ones.
"""
