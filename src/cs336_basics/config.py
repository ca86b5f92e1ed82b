"""What a model, an optimizer and a run are made of: frozen dataclasses, validated once, TOML in and out.

Never imports torch, so that the command line answers at once.
"""

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

C = TypeVar("C")
MaybeInt: TypeAlias = Optional[int]  # noqa: UP045  # tyro imports typeguard for `int | None`, a quarter of --help's time
MaybeFloat: TypeAlias = Optional[float]  # noqa: UP045  # as above


class ConfigError(ValueError):
    """A configuration that cannot be: names the field, what it must be, and what it is."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a decoder-only Transformer; ablations are fields, resolved in `nn/block.py`.

    Source: Touvron et al. 2023, arXiv:2302.13971 for the default arrangement.
    """

    vocab_size: int = 10_000  # token ids the model knows
    context_length: int = 256  # most positions it attends over
    d_model: int = 512  # width of the residual stream
    n_layers: int = 4  # Transformer blocks
    n_heads: int = 16  # query heads; each is d_model / n_heads wide
    n_kv_heads: MaybeInt = None  # key and value heads, shared by groups of query heads; default n_heads
    d_ff: MaybeInt = None  # hidden width; default: 8/3 * d_model up to a multiple of 64 (swiglu), 4 * d_model (silu)
    rope_theta: float = 10_000.0  # base of the rotary wavelengths
    norm_eps: float = 1e-5  # added to the mean square in RMSNorm
    norm: Literal["pre", "post", "none"] = "pre"  # where RMSNorm stands in a block
    position: Literal["rope", "none"] = "rope"  # how a position is told: rotary, or not at all (NoPE)
    ffn: Literal["swiglu", "silu"] = "swiglu"  # gated, or plain with two matrices
    tie_embeddings: bool = False  # the output head is the token embedding
    qk_norm: bool = False  # RMSNorm on each head's queries and keys
    fuse_qkv: bool = False  # one matrix multiply for queries, keys and values; same weights, same keys

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("vocab_size", "context_length", "d_model", "n_layers", "n_heads"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "n_heads", self.d_model % self.n_heads == 0, f"a divisor of d_model = {self.d_model}")
        if self.n_kv_heads is not None:
            fits = self.n_kv_heads >= 1 and self.n_heads % self.n_kv_heads == 0
            check(self, "n_kv_heads", fits, f"a divisor of n_heads = {self.n_heads}")
        even = self.position == "none" or self.d_head % 2 == 0
        check(self, "n_heads", even, "a number that makes d_model / n_heads even, as rotary pairs need")
        check(self, "d_ff", self.d_ff is None or self.d_ff >= 1, "at least 1")
        check(self, "rope_theta", self.rope_theta > 0, "above 0")
        check(self, "norm_eps", self.norm_eps >= 0, "at least 0")

    @property
    def d_head(self) -> int:
        """Width of one head: d_model / n_heads."""
        return self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """n_kv_heads, or n_heads where that is not given."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def ffn_width(self) -> int:
        """d_ff; by default `default_d_ff` (SwiGLU) or 4·d_model (SiLU): about 8·d_model² parameters either way."""
        if self.d_ff is not None:
            return self.d_ff
        return default_d_ff(self.d_model) if self.ffn == "swiglu" else 4 * self.d_model


def default_d_ff(d_model: int) -> int:
    """SwiGLU's width, 8/3·d_model rounded up to a multiple of 64.

    >>> default_d_ff(512)
    1408
    """
    return -(-8 * d_model // (3 * 64)) * 64


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The update rule and its schedule over a run."""

    name: Literal["adamw", "muon", "sgd"] = "adamw"  # muon: matrices by Muon, the rest by AdamW
    lr: float = 1e-3  # the highest learning rate
    min_lr_ratio: float = 0.1  # the last learning rate, as a part of the highest
    schedule: Literal["cosine", "linear", "wsd"] = "cosine"  # shape of the decay after warm-up
    warmup_ratio: float = 0.05  # part of the run in which the rate rises
    beta1: float = 0.9  # AdamW's memory of the gradient
    beta2: float = 0.95  # AdamW's memory of its square
    momentum: float = 0.95  # memory of the gradient in Muon and SGD
    eps: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 0.1  # decoupled; on matrices only
    max_grad_norm: float = 1.0  # gradients are scaled down to this global norm

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "lr", 0 <= self.lr < float("inf"), "at least 0 and finite")
        for name in ("beta1", "beta2", "momentum"):
            check(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name in ("min_lr_ratio", "warmup_ratio"):
            check(self, name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        for name in ("eps", "weight_decay"):
            check(self, name, getattr(self, name) >= 0, "at least 0")
        check(self, "max_grad_norm", self.max_grad_norm > 0, "above 0 (use inf for no clipping)")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how wide and on what a model is trained."""

    steps: int = 1_000  # optimizer updates
    batch_size: int = 32  # sequences an update
    grad_accumulation: int = 1  # parts a batch is computed in, one after the other
    seed: int = 0  # of the initial weights and of the order of the data
    sampling: Literal["shuffle", "random"] = "shuffle"  # each window once an epoch, or drawn with replacement
    z_loss: float = 0.0  # weight of the squared log-partition added to the loss
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"  # of matrix products (weights stay float32); auto: faster
    kernels: bool = True  # attention in blocks and the loss in chunks, in place of the definitions; equal to rounding
    compile: bool = False  # torch.compile the loss: costs up to a minute once, pays on long runs
    matmul_precision: Literal["highest", "high", "medium"] = "highest"  # of float32; lower: quicker, other losses
    peak_flops: MaybeFloat = None  # the device's FLOP/s for MFU; default: measured at the start
    log_every: int = 10  # steps between lines of metrics
    eval_every: int = 200  # steps between evaluations
    eval_batches: int = 20  # batches an evaluation reads; the same ones each time
    save_every: int = 500  # steps between checkpoints; the last step always saves
    keep_checkpoints: int = 2  # the newest good ones kept; older ones are deleted
    keep_best: int = 0  # checkpoints kept besides for their validation loss
    on_disk_error: Literal["stop", "go on"] = "stop"  # what a run does when a checkpoint or metrics cannot be written
    divergence_patience: int = 0  # lines of metrics in a row far above the lowest loss that stop a run; 0: never

    def __post_init__(self) -> None:
        check_types(self)
        counts = "steps batch_size grad_accumulation log_every eval_every eval_batches save_every keep_checkpoints"
        for name in counts.split():
            check(self, name, getattr(self, name) >= 1, "at least 1")
        divides = self.batch_size % self.grad_accumulation == 0
        check(self, "grad_accumulation", divides, f"a divisor of batch_size = {self.batch_size}")
        check(self, "seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        for name in ("z_loss", "keep_best", "divergence_patience"):
            check(self, name, getattr(self, name) >= 0, "at least 0")
        check(self, "peak_flops", self.peak_flops is None or self.peak_flops > 0, "above 0")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where a run finds its tokens."""

    train: str = ""  # token file to learn from
    valid: str = ""  # token file to evaluate on; default: the last part of train, held out
    valid_share: float = 0.05  # how large that part is
    tokenizer: str = ""  # folder of the tokenizer that made them
    verify: bool = True  # compare token files with their SHA-256, which reads them whole; false for huge ones

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "valid_share", 0 < self.valid_share < 1, "above 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a training run; saved resolved as `config.toml` in its folder."""

    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        check_types(self)


def to_dict(config: object) -> dict[str, Any]:
    """The fields of a config, nested ones included; None is left out, as TOML has no word for it."""
    pairs = ((f.name, getattr(config, f.name)) for f in dataclasses.fields(config))  # type: ignore[arg-type]  # any dataclass
    return {
        name: to_dict(value) if dataclasses.is_dataclass(value) else value for name, value in pairs if value is not None
    }


def from_dict(cls: type[C], values: Mapping[str, Any], *, where: str = "") -> C:
    """Build a config from nested mappings; `where` names their source in errors.

    Raises: ConfigError for an unknown field (with the nearest known one), a wrong type, a refused value.

    >>> from_dict(ModelConfig, {"d_modle": 64})
    Traceback (most recent call last):
        ...
    cs336_basics.config.ConfigError: d_modle is not a field of ModelConfig; did you mean d_model?
    """
    known = _hints(cls)
    prefix = f"{where}: " if where else ""
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            mend = f"did you mean {close[0]}?" if close else f"its fields are {', '.join(known)}"
            raise ConfigError(f"{prefix}{name} is not a field of {cls.__name__}; {mend}")
        hint = known[name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{prefix}{name} must be a table, got {value!r}")
            arguments[name] = from_dict(hint, value, where=f"{where}[{name}]" if where else f"[{name}]")
        else:
            arguments[name] = value
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from None


def load_config(cls: type[C], path: str | Path) -> C:
    """Read a config from a TOML file. Raises: ConfigError naming the file, and the line where it is not TOML."""
    return from_dict(cls, read_toml(path), where=str(path))


def read_toml(path: str | Path, *, where: str = "") -> dict[str, Any]:
    """The values of a TOML file. Raises: ConfigError, `where` first, that names the file and the line."""
    try:
        return tomllib.loads(Path(path).read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"{where}{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, too many digits or brackets
        raise ConfigError(f"{where}{path}: not TOML: {error}") from None


def to_toml(config: object) -> str:
    """The text of a TOML file that `load_config` reads back to an equal config."""
    import tomli_w

    return tomli_w.dumps(to_dict(config))


def check_types(config: object, *, skip: object = ...) -> None:
    """Hold every field of a config to its annotation; an int serves as a float, a list as a tuple.

    `skip` is a value that stands for a field still to be filled.

    Raises: ConfigError naming the field, what it must be, and what it is.
    """
    for name, hint in _hints(type(config)).items():
        if (value := getattr(config, name, skip)) is skip:
            continue
        if isinstance(value, int) and not isinstance(value, bool) and _fits(0.0, hint) and not _fits(value, hint):
            if abs(value) > 2**1023:
                must = f"{_describe(hint)} that a float can hold"
                raise ConfigError(f"{name} must be {must}, got one of {len(str(value))} digits")
            object.__setattr__(config, name, float(value))
        elif isinstance(value, list) and _fits(tuple(value), hint):
            object.__setattr__(config, name, tuple(value))
        elif not _fits(value, hint):
            raise ConfigError(f"{name} must be {_describe(hint)}, got {value!r}")


def _hints(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _fits(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(part, get_args(hint)[0]) for part in value)
    if hint is float:
        # NaN compares false with every bound, so it would slip through the checks of ranges.
        return isinstance(value, float) and value == value
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return "a list of texts"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join("absent" if part is type(None) else _describe(part) for part in get_args(hint))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(hint, str(hint))


def check(config: object, name: str, condition: bool, must: str) -> None:
    """Raise ConfigError naming the field unless the condition holds."""
    if not condition:
        raise ConfigError(f"{name} must be {must}, got {getattr(config, name)!r}")
