"""Classify from a program that waits: one text, then a list with a text that cannot be read in it.

python sync.py [grpc://localhost:8001]
"""

import sys

from newsdesk.clients import Client, TextRefused

with Client(*sys.argv[1:2]) as client:
    answer = client.classify("Wall Street bears claw back into the black", quality="best", members=True)
    print(f"{answer.label} ({answer.probability:.1%}), answered by {answer.answered_by}")
    for member, shares in (answer.members or {}).items():
        print(f"  {member} by itself: {max(shares, key=lambda label: shares[label])}")

    for item in client.classify(["Striker scores twice as the champions win the match", ""]):
        print(item if isinstance(item, TextRefused) else item.label)
