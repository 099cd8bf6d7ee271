"""Makes the demo's tokenizer: byte-level BPE of 512 tokens, digits and Chinese characters single, from the demo's own texts.

Run: python scripts/dev/demo-data/tokenizer.py   (needs the `tokenizers` package)
"""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

folder = Path(__file__).resolve().parents[2] / "demo"
texts = []
for name in ("corpus.jsonl", "train.jsonl"):
    for line in (folder / name).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts.append(row["text"] if "text" in row else f"User: {row['instruction']}\nAssistant: {row['output']}")

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
        # Chinese characters stand alone, as digits do: a name must be the same token in every phrasing.
        pre_tokenizers.Split(Regex("[\\u4e00-\\u9fff]"), behavior="isolated"),
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]
)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=512,
    special_tokens=["<|endoftext|>", "<|pad|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
tokenizer.train_from_iterator(texts, trainer)
tokenizer.save(str(folder / "tokenizer.json"))
config = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|pad|>",
    "clean_up_tokenization_spaces": False,
    "model_max_length": 256,
}
(folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
print(tokenizer.get_vocab_size(), "tokens;", tokenizer.encode("User: 1加1等于几?\nAssistant: 2<|endoftext|>").tokens)
