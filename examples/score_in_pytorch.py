"""Scores items with the vectors of `prismrec export`, in PyTorch.

    prismrec export runs/ratings-1 --data ratings.csv --out vectors
    python examples/score_in_pytorch.py vectors 42

prints the same ten items as

    prismrec recommend runs/ratings-1 --data ratings.csv --user 42 --keep-history

Needs torch and safetensors.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

folder, user = Path(sys.argv[1]), sys.argv[2]
item_ids = (folder / "items.txt").read_text().splitlines()
user_ids = (folder / "users.txt").read_text().splitlines()
items = load_file(folder / "items.safetensors")["vectors"]  # [items, D]
users = load_file(folder / "users.safetensors")["vectors"]  # [users, K, D]

scores, intentions = (users[user_ids.index(user)] @ items.T).max(dim=0)  # over K, of [K, items]
for score, item in zip(*(values.tolist() for values in scores.topk(10))):
    print(f"{item_ids[item]}\t{score:.4f}\t{intentions[item].item()}")
