"""The other side of `scripts/dev/bench/generate.mjs`: transformers' generate, and what the machine does.

Run by generate.mjs: python generate-transformers.py MODEL THREADS; answers JSON lines of work. The model 'none' measures the machine.
"""

import json
import sys
import time

import torch


def best_of(count, run):
    best = float("inf")
    for _ in range(count):
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    return best


def machine():
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    flops = 2 * 2048**3 / best_of(8, lambda: a @ b)
    # More than any cache holds, read by a product with a vector and by a sum: the faster of the two.
    rows = torch.rand(262144, 1024)
    x = torch.rand(1024)
    seconds = min(best_of(5, lambda: rows @ x), best_of(5, lambda: rows.sum()))
    return {"flops": flops, "bandwidth": rows.numel() * 4 / seconds}


def main(folder, threads):
    torch.set_num_threads(int(threads))
    if folder == "none":
        for _ in sys.stdin:
            print(json.dumps(machine()), flush=True)
        return
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None

    class Rooms(StoppingCriteria):
        """Each row ends at a length of its own."""

        def __init__(self, rooms, start):
            self.rooms, self.start = torch.tensor(rooms), start

        def __call__(self, ids, scores, **_):
            return ids.shape[1] - self.start >= self.rooms

    def generate(rows):
        longest = max(len(row["ids"]) for row in rows)
        rooms = [row["room"] for row in rows]
        ids = torch.tensor([[0] * (longest - len(row["ids"])) + row["ids"] for row in rows])
        mask = torch.tensor([[0] * (longest - len(row["ids"])) + [1] * len(row["ids"]) for row in rows])
        ends = StoppingCriteriaList([Rooms(rooms, longest)] if len(set(rooms)) > 1 else [])
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=mask, max_new_tokens=max(rooms), do_sample=False, pad_token_id=0, stopping_criteria=ends,
            )
        return [row[longest : longest + room].tolist() for row, room in zip(found, rooms)]

    for line in sys.stdin:
        work = json.loads(line)
        begun = time.perf_counter()
        if work["kind"] == "load":
            copies = {name: tensor.clone() for name, tensor in load_file(f"{folder}/model.safetensors").items()}
            answer = {"seconds": time.perf_counter() - begun}
            del copies
        else:
            ids = generate(work["rows"])
            answer = {"seconds": time.perf_counter() - begun, "ids": ids}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
