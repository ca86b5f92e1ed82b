"""A draw depends on the logits and the generator, not on where the logits lie in memory."""

import torch

from cs336_basics.ops.sampling import sample


def test_equal_logits_give_equal_ids_whatever_their_strides() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    padded = torch.stack((logits, -logits), dim=-1)
    for other in (logits.mT.contiguous().mT, padded[..., 0]):
        assert torch.equal(other, logits)
        assert other.stride() != logits.stride()
        draws = [sample(x, generator=torch.Generator().manual_seed(1)) for x in (logits, other)]
        assert torch.equal(*draws)
