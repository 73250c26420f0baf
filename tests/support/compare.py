"""How far two tensors are apart."""


def difference(a, b) -> float:
    """The largest difference of two numbers in the same place."""
    return (a - b).abs().max().item()


def distance(a, b) -> float:
    """Euclidean, as a share of b's length."""
    return float((a - b).norm() / b.norm())
