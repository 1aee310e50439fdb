"""DPO steps with TRL's DPOTrainer: padded, chosen and rejected concatenated, no logits (its fused head, which this trainer puts on
every model), reference log-probs cached, no gradient checkpointing. bf16 is its `bf16=True`: autocast over fp32 weights. Prints one
JSON object with the seconds of each step."""
import argparse
import json
import time

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, TrainerCallback
from trl import DPOConfig, DPOTrainer

from dpo_data import read_pairs


class StepClock(TrainerCallback):
    def __init__(self):
        self.seconds = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.start)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--type", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=options.model + "/tokenizer.json", eos_token="<|endoftext|>",
                                        pad_token="<|padding|>")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    data = Dataset.from_list(read_pairs(options.data, options.batch * options.steps))
    config = DPOConfig(output_dir=options.output, per_device_train_batch_size=options.batch, max_steps=options.steps,
                       max_length=options.max_length, learning_rate=1e-6, optim="adamw_torch", beta=0.1,
                       precompute_ref_log_probs=True, precompute_ref_batch_size=options.batch, bf16=options.type == "bf16",
                       gradient_checkpointing=False, report_to=[], use_cpu=True, save_strategy="no", logging_steps=1,
                       dataloader_num_workers=0, disable_tqdm=True, lr_scheduler_type="constant",
                       train_sampling_strategy="sequential")
    clock = StepClock()
    trainer = DPOTrainer(model=model, ref_model=None, args=config, train_dataset=data, processing_class=tokenizer,
                         callbacks=[clock])
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(json.dumps({"peer": f"trl {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
                      "batch": options.batch, "seconds": clock.seconds, "losses": losses}))


if __name__ == "__main__":
    main()
