"""Label a file of any size in constant memory: one text a line in, label and text out.

python file.py articles.txt [grpc://localhost:8001]
"""

import sys

from newsdesk.clients import Client, TextRefused

path, *url = sys.argv[1:]
with open(path, encoding="utf-8") as file, open(path, encoding="utf-8") as again, Client(*url) as client:
    answers = client.stream((line.rstrip("\n") for line in file), top_k=1)
    for line, item in zip(again, answers, strict=True):
        print("refused" if isinstance(item, TextRefused) else item.label, line.rstrip("\n"), sep="\t")
