"""Reads a file and prints what came of it, the same in every run: python.wasm check.py FILE [OUT]"""

import hashlib
import json
import os
import re
import sys
from collections import Counter

with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()

words = re.findall(r"[a-z]+", text.lower())
report = {
    "file": os.path.basename(sys.argv[1]),
    "sha256": hashlib.sha256(text.encode()).hexdigest(),
    "words": len(words),
    "common": sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))[:3],
    "owner": os.environ.get("OWNER"),
    "python": "%d.%d" % sys.version_info[:2],
    "platform": sys.platform,
}
print(json.dumps(report, indent=2, sort_keys=True))

if len(sys.argv) > 2:
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(report, file)
    with open(sys.argv[2], encoding="utf-8") as file:
        assert json.load(file)["words"] == len(words)
    print("wrote", sys.argv[2])

print("stdin:", sum(int(line) for line in sys.stdin))
sys.exit(0 if words else 1)
