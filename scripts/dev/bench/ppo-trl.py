"""The other side of `scripts/dev/bench/ppo.mjs`: TRL 1.9's PPOTrainer, the last that there is.

Run by ppo.mjs: python ppo-trl.py WORK.json defaults|best
Prints one JSON line: CPU seconds of each iteration by part, peak resident bytes.
"""

import json
import resource
import sys
import tempfile
import time

import torch


def main(path, kind):
    work = json.load(open(path, encoding="utf-8"))
    torch.set_num_threads(work["threads"])
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    clock = {"seconds": [], "began": 0.0, "rolled": 0.0, "updating": None}

    generation, forward = ppo_trainer.batch_generation, ppo_trainer.forward

    def timed_generation(*args, **kwargs):
        clock["began"] = time.process_time()
        clock["updating"] = None
        result = generation(*args, **kwargs)
        clock["rolled"] = time.process_time()
        return result

    def timed_forward(*args, **kwargs):
        if torch.is_grad_enabled() and clock["updating"] is None:
            clock["updating"] = time.process_time()
        return forward(*args, **kwargs)

    ppo_trainer.batch_generation, ppo_trainer.forward = timed_generation, timed_forward

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            clock["seconds"].append({
                "rollout": clock["rolled"] - clock["began"],
                "score": clock["updating"] - clock["rolled"],
                "update": time.process_time() - clock["updating"],
            })

    tokenizer = AutoTokenizer.from_pretrained(work["policy"], padding_side="left")
    tokenizer.eos_token_id = tokenizer.pad_token_id = json.load(open(f"{work['policy']}/config.json", encoding="utf-8"))["pad_token_id"]
    load = dict(dtype=torch.float32)
    policy = AutoModelForCausalLM.from_pretrained(work["policy"], **load)
    score = lambda: AutoModelForSequenceClassification.from_pretrained(work["judge"], num_labels=1, **load)
    peft_config = None
    reference = None
    if work["lora"]:
        from peft import LoraConfig

        peft_config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    else:
        reference = AutoModelForCausalLM.from_pretrained(work["policy"], **load)
    rows = Dataset.from_list([{"input_ids": ids} for ids in work["promptIds"]])
    best = {"gradient_checkpointing": False, "optim": "adamw_torch_fused"} if kind == "best" else {}
    with tempfile.TemporaryDirectory() as output:
        config = PPOConfig(
            output_dir=output, use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, save_strategy="no", logging_steps=1000000,
            per_device_train_batch_size=work["batch"] // work["miniBatches"], gradient_accumulation_steps=1, num_mini_batches=work["miniBatches"],
            num_ppo_epochs=work["epochs"], total_episodes=work["batch"] * work["iterations"], response_length=work["answer"], stop_token=None,
            local_rollout_forward_batch_size=work["batch"], temperature=1.0, num_sample_generations=0, learning_rate=1e-6,
            missing_eos_penalty=1.0, **best,
        )
        trainer = PPOTrainer(
            args=config, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=score(), value_model=score(),
            train_dataset=rows, eval_dataset=rows, peft_config=peft_config, callbacks=[Clock()],
        )
        trainer.train()
    print(json.dumps({"seconds": clock["seconds"], "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
