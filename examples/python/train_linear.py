"""Learns cell types with one linear layer, from an `annfusion serve`. Needs pyarrow and torch.

    $ annfusion serve coll.zarr
    $ python examples/python/train_linear.py grpc://127.0.0.1:50051 coll --label cell_type

One cell of ten is held out, by a condition of the ticket; the others come in a new order every epoch,
normalised and with logarithms taken by the server. With `--workers N`, processes of their own receive
and convert while the model learns; they are spawned, because gRPC does not survive a fork, and anew for
each pass, which takes seconds: little data is learned faster without.
"""

import argparse
import time

import torch
from annfusion_loader import Minibatches


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server")
    parser.add_argument("object")
    parser.add_argument("--label", default="cell_type")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    options = {"to": "torch", "obs": [args.label], "batch_size": args.batch_size, "normalize_total": 1e4, "log1p": True}
    learned = Minibatches(args.server, args.object, where="obs_idx % 10 <> 0", **options)
    held_out = Minibatches(args.server, args.object, where="obs_idx % 10 = 0", **options)
    # The first minibatch tells how many genes and classes there are.
    n_genes = next(iter(held_out))["X"].shape[1]
    if args.label not in held_out.categories:
        parser.error(f"--label {args.label} is not categorical")
    n_classes = len(held_out.categories[args.label])
    model = torch.nn.Linear(n_genes, n_classes).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def minibatches(of):
        spawned = {"multiprocessing_context": "spawn"} if args.workers else {}
        for minibatch in torch.utils.data.DataLoader(of, batch_size=None, num_workers=args.workers, **spawned):
            x = minibatch["X"].to(args.device)
            labels = torch.as_tensor(minibatch["obs"][args.label], dtype=torch.int64, device=args.device)
            yield torch.sparse.mm(x, model.weight.t()) + model.bias, labels

    for epoch in range(args.epochs):
        learned.set_epoch(epoch)
        began, cells = time.perf_counter(), 0
        for scores, labels in minibatches(learned):
            # Cells without a label have the code -1.
            loss = torch.nn.functional.cross_entropy(scores, labels, ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cells += len(labels)
        rate = cells / (time.perf_counter() - began)
        with torch.no_grad():
            right = [(scores.argmax(1) == labels)[labels >= 0] for scores, labels in minibatches(held_out)]
        accuracy = torch.cat(right).float().mean().item()
        print(f"epoch {epoch}: loss {loss.item():.3f}, {accuracy:.1%} of held-out cells right, {rate:,.0f} cells/s")


if __name__ == "__main__":
    main()
