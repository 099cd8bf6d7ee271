#!/usr/bin/env python3
"""Makes test/fixtures/masks: a small byte-level tokenizer with ChatML's special tokens, and 200 conversations with the
ids and the assistant mask that transformers gives them. Needs transformers and tokenizers; the same output every time.

    python3 scripts/dev/make-mask-fixtures.py [OUTPUT]
"""

import json
import os
import random
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}{% endgeneration %}{{ '<|im_end|>\\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

PIECES = [
    "What is the name of this cat?", "1 + 1 = 2", "The sky is blue.", "Please translate: good morning",
    "I don't know, sorry", "def add(a, b):\n    return a + b", "  two spaces before", "and after  ", "Yes", "No.",
    "这只猫叫什么名字?", "它叫小花。", "1加1等于几?", "等于2。", "天空是什么颜色的?", "天空是蓝色的。", "把这句话翻译成英文:早上好",
    "😀", "👩‍👩‍👧‍👦 family", "🇩🇪🇨🇳", "naïve café", "한국어", "日本語テスト", "Привет, мир", "\n\nTwo line feeds", "tab\there",
    "a < b && c > d", "<|im_sta", "price: 12,345.67", "…", "'s", "{{ not a template }}", "\u00a0no-break", "e\u0301",
]


def text(draw, empty=0.0):
    if draw.random() < empty:
        return ""
    return draw.choice(["", " "]).join(draw.choice(PIECES) for _ in range(draw.choice([1, 1, 1, 2, 3])))


def conversation(draw):
    messages = []
    if draw.random() < 0.3:
        messages.append({"role": "system", "content": text(draw)})
    for _ in range(draw.choice([1, 1, 2, 3])):
        messages.append({"role": "user", "content": text(draw, 0.05)})
        if draw.random() < 0.1:
            messages.append({"role": "tool", "content": text(draw)})
        messages.append({"role": "assistant", "content": text(draw, 0.05)})
    return messages


def main():
    output = sys.argv[1] if len(sys.argv) > 1 else os.path.join("test", "fixtures", "masks")
    os.makedirs(output, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PIECES * 4 + ["system\nuser\nassistant\ntool\n", "a\n\nb\n\n\nc\n\n\n\nd"] * 8, trainer)
    # pad is the terminator: masks must not come from ids.
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", bos_token="<|im_start|>"
    )
    tokenizer.save(os.path.join(output, "tokenizer.json"), pretty=False)
    with open(os.path.join(output, "tokenizer_config.json"), "w") as file:
        json.dump({"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "bos_token": "<|im_start|>"}, file)
        file.write("\n")
    with open(os.path.join(output, "chat_template.jinja"), "w") as file:
        file.write(TEMPLATE)
    draw = random.Random(20)
    with open(os.path.join(output, "conversations.jsonl"), "w") as file:
        for _ in range(200):
            messages = conversation(draw)
            out = fast.apply_chat_template(
                messages,
                chat_template=TEMPLATE,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=True,
            )
            mask = "".join(str(bit) for bit in out["assistant_masks"])
            line = {"messages": messages, "ids": out["input_ids"], "mask": mask}
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
