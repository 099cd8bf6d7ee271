"""What Python's huggingface_hub makes of a Hub: downloads files with hf_hub_download and prints their paths.

usage: hub-check.py REPOSITORY REVISION FILE...     (HF_ENDPOINT, HF_HUB_CACHE and HF_HUB_OFFLINE say where)
A repository that begins with datasets/ is a data set.
"""

import json
import sys

from huggingface_hub import hf_hub_download

repository, revision, *files = sys.argv[1:]
kind = "dataset" if repository.startswith("datasets/") else "model"
name = repository.removeprefix("datasets/")
paths = [hf_hub_download(name, file, repo_type=kind, revision=revision) for file in files]
print(json.dumps(paths))
