"""newsdesk.server.runtime: the code inside Triton's Python backend; numpy, tokenizers and one engine library."""
