"""Finds a user's items in a vector index: one search for each intention, and the best of what they find.

    prismrec export runs/ratings-1 --data ratings.csv --out vectors --format npy
    python examples/search_with_usearch.py vectors 42

prints the same ten items as

    prismrec recommend runs/ratings-1 --data ratings.csv --user 42 --keep-history

An item that is among the ten best is among the ten best of the intention that scores it, so that as many neighbours
for each intention are enough. Any store with inner products serves; this is usearch (and numpy), with an exact search.
For an approximate one over many items, leave `exact=True` out.
"""

import sys
from pathlib import Path

import numpy as np
from usearch.index import Index

folder, user = Path(sys.argv[1]), sys.argv[2]
item_ids = (folder / "items.txt").read_text().splitlines()
user_ids = (folder / "users.txt").read_text().splitlines()
items = np.load(folder / "items.npy")  # [items, D]
users = np.load(folder / "users.npy")  # [users, K, D]

index = Index(ndim=items.shape[1], metric="ip", dtype="f32")
index.add(np.arange(len(items)), items)

best = {}
for intention, vector in enumerate(users[user_ids.index(user)]):
    for match in index.search(vector, 10, exact=True):
        score = 1 - float(match.distance)  # usearch's distance is 1 - a . b
        best[match.key] = max(best.get(match.key, (-np.inf, 0)), (score, intention))
for item, (score, intention) in sorted(best.items(), key=lambda of: -of[1][0])[:10]:
    print(f"{item_ids[item]}\t{score:.4f}\t{intention}")
