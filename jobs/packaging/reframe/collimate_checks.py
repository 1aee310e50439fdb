"""ReFrame tests of an installed collimate: does it start, does it agree with itself on more ranks, how fast is it.

    reframe -C SITE.py -c jobs/packaging/reframe/collimate_checks.py -S modules=collimate -r

Without a site's configuration, on this machine: -C jobs/packaging/reframe/local.py. `collimate` is found in PATH where
no module is named (-S modules=…). Nothing is downloaded: pairs and model are made by the program itself.
"""
import json
import os

import reframe as rfm
import reframe.utility.sanity as sn
from reframe.core.builtins import (deferrable, parameter, performance_function, run_after, run_before, sanity_function,
                                   variable)

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 258,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-06, "hidden_act": "silu", "tie_word_embeddings": True,
    "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32",
}


class CollimateCheck(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    sourcesdir = None
    executable = "collimate"
    rows = variable(int, value=128)
    ranks = parameter([1, 2])

    @run_after("init")
    def one_thread_a_rank(self):
        self.num_tasks = self.ranks
        self.num_cpus_per_task = 1
        self.env_vars["OMP_NUM_THREADS"] = "1"

    @run_before("run")
    def make_pairs_and_model(self):
        self.prerun_cmds = [
            "set -e",
            f"echo '{json.dumps(CONFIG)}' > config.json",
            f"collimate --quiet synth output=pairs.jsonl synth.rows={self.rows} seed=1",
            "collimate --quiet prepare input=pairs.jsonl tokenizer=bytes output=pairs.h5",
            "collimate --quiet init init.config=config.json tokenizer=bytes output=init",
            "set +e",
        ]


@rfm.simple_test
class CollimatePreflight(CollimateCheck):
    """Can this allocation train: ranks, collectives, file system, memory, data."""

    descr = "preflight of a DPO run"
    executable_opts = ["preflight", "preflight.command=dpo", "data=pairs.h5", "model=init", "output=run", "train.batch=16"]

    @sanity_function
    def nothing_is_refused(self):
        return sn.all([sn.assert_found(rf"(?i)\b{self.ranks} rank", self.stdout),
                       sn.assert_eq(sn.getattr(self.job, "exitcode"), 0)])


@rfm.simple_test
class CollimateDpo(CollimateCheck):
    """Ten updates: the first loss is log 2, the numbers are those of one rank, the model is there."""

    descr = "DPO on pairs whose truth is known"
    executable_opts = ["--quiet", "dpo", "data=pairs.h5", "model=init", "output=run", "train.batch=16", "train.steps=10",
                       "train.learning_rate=1e-3", "train.deterministic=true"]
    keep_files = ["run/metrics.jsonl", "run/environment.json"]
    # With train.deterministic=true any rank count gives the same bits; so the test of one rank vouches for the rest.
    postrun_cmds = ["collimate --quiet dpo data=pairs.h5 model=init output=alone train.batch=16 train.steps=10 "
                    "train.learning_rate=1e-3 train.deterministic=true && cmp alone/model/model.safetensors run/model/model.safetensors "
                    "&& echo same-bits"]

    @deferrable
    def updates(self):
        with open(os.path.join(self.stagedir, "run", "metrics.jsonl")) as file:
            return [line for line in map(json.loads, file) if "loss" in line]

    @sanity_function
    def is_right(self):
        first = self.updates()[0]["loss"]
        return sn.all([sn.assert_eq(sn.count(self.updates()), 10),
                       sn.assert_reference(first, 0.6931471805599453, -1e-6, 1e-6),
                       sn.assert_found("same-bits", self.stdout)])

    @performance_function("pairs/s")
    def pairs_per_s(self):
        return sn.avg(sn.map(lambda line: line["pairs_per_s"], self.updates()[2:]))
