"""The first N usable HH-RLHF pairs as (prompt, chosen, rejected), split as collimate splits them: after the last
"\\n\\nAssistant:" of the chosen transcript."""
import gzip
import json


def read_pairs(path, count):
    marker = "\n\nAssistant:"
    pairs = []
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            cut = record["chosen"].rfind(marker) + len(marker)
            prompt = record["chosen"][:cut]
            if cut < len(marker) or not record["rejected"].startswith(prompt):
                continue
            chosen, rejected = record["chosen"][cut:], record["rejected"][cut:]
            if not chosen or not rejected:
                continue
            pairs.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
            if len(pairs) == count:
                break
    return pairs
