"""Export a member, fix its precision, compile it for a target, verify it against the original."""
