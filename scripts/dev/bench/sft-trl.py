"""The other side of `scripts/dev/bench/sft.mjs`: TRL's SFTTrainer on rows that are tokens already.

Run by sft.mjs: python sft-trl.py MODEL ROWS.json defaults|best THREADS BATCH STEPS
Prints one JSON line: seconds of each step, losses, peak resident bytes.
"""

import json
import resource
import sys
import tempfile
import time

import torch


def main(folder, path, kind, threads, batch, steps):
    torch.set_num_threads(int(threads))
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows = json.load(open(path, encoding="utf-8"))
    data = Dataset.from_list([{"input_ids": r["inputIds"], "completion_mask": [int(x != -100) for x in r["labels"]]} for r in rows])
    seconds, losses = [], []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            seconds.append(time.perf_counter() - self.start)

        def on_log(self, args, state, control, logs=None, **__):
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_):
            return SequentialSampler(self.train_dataset)

    best = {"gradient_checkpointing": False, "optim": "adamw_torch_fused"} if kind == "best" else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as output:
        config = SFTConfig(
            output_dir=output, max_steps=int(steps), per_device_train_batch_size=int(batch), learning_rate=1e-4, lr_scheduler_type="constant",
            use_cpu=True, bf16=False, report_to=[], logging_steps=1, save_strategy="no", disable_tqdm=True, max_length=None,
            completion_only_loss=True, dataloader_drop_last=True, weight_decay=0.0, **best,
        )
        trainer = InOrder(model=model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])
        trainer.train()
    print(json.dumps({"seconds": seconds, "losses": losses, "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
