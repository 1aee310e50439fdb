"""An update of the plain PyTorch loops."""
import torch


def optimizer_of(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)


def autocast(kind):
    """bf16 is what products are computed in; weights, gradients and state are fp32."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "bf16")


def update(model, optimizer, loss):
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
