"""What both losses do while the reference model trains, an epoch a line of JSON.

    python inside.py beauty.txt --lambda 0.1 --epochs 5

Every --probe steps, on the step's own batch:

gradient_*      norm of the gradient of seq2item, of the pairs selected and of all pairs, in the blocks' and the
                intention layer's parameters; their cosine with seq2item's
selected_*      pairs selected by intention, and the mean tokens of their inputs and labels beside those of all
best_*          intentions that eq. 6 takes as an example's best
alike_*         correlation, over pairs of different examples and of one intention, between the logit of eq. 3 and how
                alike two sequences are: in length (-|ln(tokens) - ln(tokens)|), of an input and the label's own input, or
                of an input and the label itself
logit_*         mean logit of eq. 3 of the positives and of all others
"""

import argparse
import json
import math
from collections import defaultdict

import numpy as np
import torch

from model import Config, Model, select, selection_rank, sequence_to_item, sequence_to_sequence
from train import Data, batch_of, evaluate, keep_memory, negatives


def norms(losses, parameters):
    """Norm of each loss's gradient, and its cosine with the first one's."""
    flat = []
    for value in losses:
        found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        flat.append(torch.cat([(p.new_zeros(p.numel()) if g is None else g.flatten()) for p, g in zip(parameters, found)]))
    size = [float(g.norm()) for g in flat]
    return size, [float(g @ flat[0]) / (n * size[0] + 1e-30) for g, n in zip(flat, size)]


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def probe(model, inputs, labels, phi, label, s2i, s2s, lam, h):
    b, k, d = phi.shape
    shared = [p for n, p in model.named_parameters() if n.startswith(("blocks", "intention"))]
    chosen, tau = select(s2s, lam)
    size, cosine = norms([s2i.sum(), chosen, s2s.sum()], shared)
    out = dict(zip(["gradient_s2i", "gradient_selected", "gradient_pairs"], size))
    out |= dict(zip(["gradient_selected_cosine", "gradient_pairs_cosine"], cosine[1:]))
    with torch.no_grad():
        taken = s2s <= tau
        n, m = inputs.lens.float(), labels.lens.float()
        share = taken.float().mean(1)
        out |= {f"selected_{i}": float(taken[:, i].float().sum() / taken.sum()) for i in range(k)}
        out |= {"selected_tokens": float((share * n).sum() / share.sum()), "all_tokens": float(n.mean())}
        out |= {"selected_label_tokens": float((share * m).sum() / share.sum()), "all_label_tokens": float(m.mean())}
        best = (phi @ h[:, :, None])[:, :, 0].argmax(1)
        out |= {f"best_{i}": float((best == i).float().mean()) for i in range(k)}
        logits = torch.einsum("bkd,ckd->kbc", phi, label) / math.sqrt(d)
        own = torch.eye(b, dtype=torch.bool)
        out["logit_positive"], out["logit_other"] = float(logits[:, own].mean()), float(logits[:, ~own].mean())
        length = lambda x, y: -(x.log()[:, None] - y.log()[None, :]).abs()[~own].expand(k, -1)
        out["alike_input_lengths"] = correlation(logits[:, ~own], length(n, n))
        out["alike_label_lengths"] = correlation(logits[:, ~own], length(n, m))
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("data")
    p.add_argument("--lambda", dest="lam", type=float, default=0.1)
    p.add_argument("--weight", type=float, default=1.0, help="of the seq2seq loss")
    p.add_argument("--dropout", type=float, default=0.5)
    p.add_argument("--label-dropout", type=float, help="of labels; that of the inputs where it is not given")
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--probe", type=int, default=25)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    if not 0 < args.lam <= 1:
        p.error("--lambda is above 0, up to 1; --weight 0 leaves the seq2seq loss out")
    label_dropout = args.dropout if args.label_dropout is None else args.label_dropout
    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)
    data = Data(args.data)
    config = Config(items=data.items, dim=64, intentions=4, length=50, dropout=args.dropout, lam=args.lam)
    model = Model(config)
    optimiser = torch.optim.Adam(model.parameters(), lr=args.lr, fused=True)
    some = np.sort(np.random.default_rng(5).permutation(data.users)[:5000])
    valid = negatives(data, some, 100, seed=11)
    dropouts = [m for m in model.modules() if hasattr(m, "dropout")]

    def encode(seqs, label, rate):
        config.dropout = rate
        for module in dropouts:
            module.dropout = rate
        return model.intentions(seqs, label)

    for epoch in range(1, args.epochs + 1):
        model.train()
        sums, probes = defaultdict(float), []
        order = torch.randperm(data.cut.numel())
        for step, at in enumerate(range(0, order.numel() - 127, 128)):
            inputs, labels, targets = batch_of(data, order[at : at + 128], config)
            optimiser.zero_grad(set_to_none=True)
            phi = encode(inputs, False, args.dropout)
            label = encode(labels, True, label_dropout)
            h = model.item_embedding(targets)
            s2i = sequence_to_item(phi, h)
            s2s = sequence_to_sequence(phi, label)
            chosen, _ = select(s2s, args.lam)
            if step % args.probe == 0:
                probes.append(probe(model, inputs, labels, phi, label, s2i, s2s, args.lam, h))
            (s2i.sum() + args.weight * chosen).backward()
            optimiser.step()
            sums["s2i"] += float(s2i.detach().mean())
            sums["s2s_selected"] += float(chosen.detach()) / selection_rank(args.lam, *s2s.shape)
            sums["s2s"] += float(s2s.detach().mean())
        line = {"epoch": epoch} | {"loss_" + k: round(v / (step + 1), 4) for k, v in sums.items()}
        line |= {k: round(sum(x[k] for x in probes) / len(probes), 4) for k in probes[0]}
        line["valid"] = evaluate(model, data, some, valid, 2, full=False)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
