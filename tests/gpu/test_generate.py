"""Generation on the device: the ids of the CPU, those of the uncached model, and text."""

from typing import Final

import pytest
import torch
from torch import Tensor

from cs336_basics.config import ModelConfig
from cs336_basics.generate import generate, generate_text
from cs336_basics.nn.model import TransformerLM
from cs336_basics.tokenizer import Tokenizer
from tests.gpu.cases_ops import MODEL, MODEL_TERMS
from tests.gpu.compare import ON_DEVICE, bound, covers

pytestmark = ON_DEVICE

CONFIG: Final = ModelConfig(vocab_size=256, context_length=32, d_model=64, n_layers=2, n_heads=4, d_ff=96)
PROMPT: Final = (3, 1, 4, 1, 5, 9, 2, 6)
NEW: Final = 20


def model(device: torch.device | str, dtype: torch.dtype, rounded: torch.dtype | None = None) -> TransformerLM:
    """The same weights everywhere, rounded to `rounded` before they get their dtype."""
    made = TransformerLM(CONFIG, generator=torch.Generator().manual_seed(0))
    return made.to(rounded or dtype).to(device, dtype)


def greedy(model: TransformerLM, device: torch.device | str, n: int = NEW) -> list[int]:
    return list(generate(model, torch.tensor(PROMPT, device=device), max_new_tokens=n, temperature=0.0))


def logits_of(model: TransformerLM, ids: list[int]) -> Tensor:
    """The uncached model's logits for each token after the prompt."""
    device = next(model.parameters()).device
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([*PROMPT, *ids], device=device))
    return logits[len(PROMPT) - 1 : -1]


@covers(generate)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_greedy_ids_are_those_of_the_cpu(dtype: torch.dtype, gpu_device: torch.device) -> None:
    reference = model("cpu", torch.float64, torch.float32)
    expected = greedy(reference, "cpu")
    best, second = logits_of(reference, expected).topk(2).values.unbind(-1)
    within = bound(dtype, roundings=MODEL, terms=MODEL_TERMS)
    # The premise: no choice was so close that rounding could turn it.
    assert (best - second).min() > 2 * within.worst * best.abs().max()
    assert greedy(model(gpu_device, dtype, torch.float32), gpu_device) == expected


def test_greedy_ids_in_bfloat16_are_as_good_as_rounding_allows(gpu_device: torch.device) -> None:
    ids = greedy(model(gpu_device, torch.bfloat16), gpu_device)
    logits = logits_of(model("cpu", torch.float64, torch.bfloat16), ids)
    chosen = logits.gather(-1, torch.tensor(ids).unsqueeze(-1)).squeeze(-1)
    # The best and the chosen logit may both be off, each by three typical errors.
    error = bound(torch.bfloat16, roundings=MODEL, terms=MODEL_TERMS).typical * logits.square().mean().sqrt()
    assert (logits.amax(-1) - chosen).max() <= 2 * 3 * error


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_cache_gives_the_ids_of_the_uncached_model(dtype: torch.dtype, gpu_device: torch.device) -> None:
    there = model(gpu_device, dtype)
    ids = greedy(there, gpu_device)
    assert logits_of(there, ids).argmax(-1).tolist() == ids


def test_generation_goes_on_past_the_context(gpu_device: torch.device) -> None:
    there, here = model(gpu_device, torch.float64), model("cpu", torch.float64)
    assert greedy(there, gpu_device, 60) == greedy(here, "cpu", 60)


def test_the_same_generator_gives_the_same_ids(gpu_device: torch.device) -> None:
    there = model(gpu_device, torch.float32)
    prompt = torch.tensor(PROMPT, device=gpu_device)

    def drawn(seed: int) -> list[int]:
        generator = torch.Generator(gpu_device).manual_seed(seed)
        return list(generate(there, prompt, max_new_tokens=NEW, generator=generator, top_k=50, top_p=0.95, min_p=0.01))

    assert drawn(1) == drawn(1) != drawn(2)


@covers(generate_text)
def test_text_is_that_of_the_cpu(gpu_device: torch.device) -> None:
    tokenizer = Tokenizer({i: bytes([i]) for i in range(256)}, [])
    texts = [
        "".join(
            generate_text(
                model(device, torch.float64), tokenizer, "To be", max_new_tokens=20, temperature=0.0, device=device
            )
        )
        for device in (gpu_device, "cpu")
    ]
    assert texts[0] == texts[1] != ""
