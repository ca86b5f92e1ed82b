"""The commands, each a dataclass: its fields are its options, their comments its help. Never imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from cs336_basics.cli.command import Command, check_folder, option, span
from cs336_basics.cli.commands_runs import Export, RunsCompare, RunsList, RunsShow
from cs336_basics.config import (
    ConfigError,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    check,
    to_dict,
)
from cs336_basics.train.run import RunFolder

_LIGHTER_TRAINING = (
    "start a new run with a lower train.batch_size, a higher train.grad_accumulation (parts a batch is computed in) "
    "or a smaller model (model.context_length, model.d_model, model.n_layers)"
)
_LIGHTER_MODEL = "try --device cpu, or a run with a smaller model"


def _resume(run: str) -> tuple[str, ...]:
    return ("train", "--run", run, "--resume") if RunFolder(Path(run)).config.exists() else ()


@dataclass(frozen=True, kw_only=True)
class TokenizerTrain(Command):
    """Train a byte-level BPE tokenizer on a text file."""

    runner: ClassVar[str] = "cs336_basics.cli.tokenizer:train"
    lighter: ClassVar[str] = "lower --workers, or train on a part of the text"
    names: ClassVar[Mapping[str, str]] = {
        "train_bpe: input_path": "text",
        "train_bpe: ": "",
        "n_workers: ": "workers: ",
        "text_size: path": "text",
        "Tokenizer.save: folder": "out",
    }
    text: Annotated[str, tyro.conf.Positional]  # UTF-8 text to learn from
    out: str  # folder to write vocab.json, merges.txt and special_tokens.json to
    vocab_size: int = 4096  # tokens in all: 256 bytes, merges and special tokens
    special_tokens: tuple[str, ...] = ("<|endoftext|>",)  # never cut and never merged
    workers: int = 0  # parts of a large text counted at once; 0: one for each core

    def validate(self) -> None:
        super().validate()
        check(self, "workers", self.workers >= 0, "at least 0")
        there = next(path for path in (Path(self.out), *Path(self.out).absolute().parents) if path.exists())
        if not there.is_dir():  # said now, as training takes long
            raise ConfigError(f"out must be a folder or a new name, got {self.out}; {there} is a file, name another")


@dataclass(frozen=True, kw_only=True)
class TokenizerEncode(Command):
    """Encode a text file as a token file, ready for training."""

    runner: ClassVar[str] = "cs336_basics.cli.tokenizer:encode"
    names: ClassVar[Mapping[str, str]] = {
        "encode_file: path": "text",
        "n_workers: ": "workers: ",
        "text_size: path": "text",
        "write_tokens: path": "out",
    }
    text: Annotated[str, tyro.conf.Positional]  # UTF-8 text; its special tokens are taken as such
    tokenizer: str  # folder of a tokenizer
    out: str  # token file to write; its sidecar goes beside it
    workers: int = 0  # parts of a large text encoded at once; 0: one for each core

    def validate(self) -> None:
        super().validate()
        check(self, "workers", self.workers >= 0, "at least 0")


@dataclass(frozen=True, kw_only=True)
class TokenizerDecode(Command):
    """Turn a token file back into text."""

    runner: ClassVar[str] = "cs336_basics.cli.tokenizer:decode"
    names: ClassVar[Mapping[str, str]] = {"open_tokens: ": "tokens: ", "read_info: ": "tokens: "}
    tokens: Annotated[str, tyro.conf.Positional]  # token file
    tokenizer: str  # folder of the tokenizer that made it
    out: str = ""  # file to write the exact bytes to; default: standard output

    def validate(self) -> None:
        super().validate()
        check_folder(self.out)


@dataclass(frozen=True, kw_only=True)
class TokenizerInspect(Command):
    """Show a tokenizer: its tokens, how it cuts and compresses texts, how fast, and another one beside it."""

    runner: ClassVar[str] = "cs336_basics.cli.inspect:run"
    names: ClassVar[Mapping[str, str]] = {"read_text: path": "text", "text_size: path": "text"}
    tokenizer: Annotated[str, tyro.conf.Positional]  # folder of a tokenizer
    text: tuple[str, ...] = ()  # text files to encode: their first tokens, compression and speed
    against: str = ""  # folder of another tokenizer to compare with, on the same texts
    longest: int = 10  # how many of the longest tokens to list
    first: int = 0  # how many tokens of the lowest ids to list
    last: int = 0  # how many tokens of the highest ids to list
    ids: str = ""  # ids to list, such as 256:300 for those from 256 up to 299

    def validate(self) -> None:
        super().validate()
        check(self, "text", "" not in self.text, "names of one character or more")
        for name in ("longest", "first", "last"):
            check(self, name, getattr(self, name) >= 0, "at least 0")
        check(self, "ids", self.ids == "" or self.id_range() is not None, "two ids such as 256:300")

    def id_range(self) -> tuple[int, int] | None:
        """Where `ids` begins and ends, its end left out; None where it names no ids."""
        return span(self.ids)


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train a model on token files, into a run folder."""

    runner: ClassVar[str] = "cs336_basics.cli.train:run"
    lighter: ClassVar[str] = _LIGHTER_TRAINING
    names: ClassVar[Mapping[str, str]] = {"open_tokens: ": "data: ", "read_info: ": "data: "}
    run: str  # folder for config, tokenizer, metrics, checkpoints, samples and loss curve
    resume: bool = False  # go on from the newest checkpoint of the run, under its own config
    may_change: tuple[str, ...] = ()  # fields, such as optimizer.lr, that --resume may change: the curve bends
    tensorboard: bool = False  # write TensorBoard events into the run folder too
    profile: str = ""  # updates to write a profiler's trace of, such as 20:23 for 20 to 22
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def validate(self) -> None:
        super().validate()
        named, most = self.profiled(), self.train.steps + 1
        is_there = self.profile == "" or 0 < named.start < named.stop <= most
        check(self, "profile", is_there, f"two updates such as 20:23, from 1 to {most}")
        check(self, "may_change", self.resume or not self.may_change, "given together with --resume")
        parts = ("model", "optimizer", "train", "data")
        known = {f"{part}.{name}" for part in parts for name in vars(getattr(self, part))}
        check(self, "may_change", known.issuperset(self.may_change), "fields of the config, such as optimizer.lr")
        if not self.resume:
            RunFolder(Path(self.run)).require_new()

    def goes_on(self) -> tuple[str, ...]:
        return _resume(self.run)

    def profiled(self) -> range:
        """The updates that `profile` names; none where it names none."""
        return range(*(span(self.profile) or (0,)))

    @classmethod
    def starting_point(cls, values: dict[str, Any], words: list[str]) -> dict[str, Any]:
        """Resuming starts from the run's own config, so that a line of TOML or a flag counts whatever its value."""
        run = option(words, "--run") or values.get("run", "")
        said = [word == "--resume" for word in words if word in ("--resume", "--no-resume")]
        resume = said[-1] if said else values.get("resume") is True
        if not (resume and run and isinstance(run, str)):
            return values
        saved = to_dict(RunFolder(Path(run)).load_config())
        # What is no table is left to whoever checks the file.
        layers = {name: saved[name] | values.get(name, {}) for name in saved if isinstance(values.get(name, {}), dict)}
        return values | layers


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Score a trained model on a text: nats per token, perplexity, bits per byte."""

    runner: ClassVar[str] = "cs336_basics.cli.evaluate:run"
    lighter: ClassVar[str] = _LIGHTER_MODEL
    run: str  # run folder of a trained model
    text: str = ""  # UTF-8 text to score; default: the run's validation tokens
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps


@dataclass(frozen=True, kw_only=True)
class Generate(Command):
    """Continue a prompt with a trained model."""

    runner: ClassVar[str] = "cs336_basics.cli.generate:run"
    lighter: ClassVar[str] = _LIGHTER_MODEL
    names: ClassVar[Mapping[str, str]] = {"special_id: token": "stop", "encode: text": "prompt"}
    run: str  # run folder of a trained model
    prompt: str = ""  # text to continue; default: the tokenizer's first special token
    allowed_special: Literal["all", "none"] = "none"  # special tokens in the prompt that are taken as such
    disallowed_special: Literal["all", "none"] = "all"  # of the others, those refused; the rest is ordinary text
    max_new_tokens: int = 200  # most tokens to add
    temperature: float = 0.8  # 0: always the most likely token
    top_k: int | None = None  # draw from the k most likely tokens
    top_p: float | None = 0.95  # draw from the most likely tokens that make up p
    min_p: float | None = None  # draw from tokens at least this part as likely as the first
    stop: tuple[str, ...] | None = None  # special tokens that end the text; default: all of them
    seed: int = 0  # of the draws
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps

    def validate(self) -> None:
        super().validate()
        check(self, "max_new_tokens", self.max_new_tokens >= 0, "at least 0")
        check(self, "temperature", 0 <= self.temperature < float("inf"), "at least 0 and finite")
        check(self, "top_k", self.top_k is None or self.top_k >= 1, "at least 1")
        check(self, "top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1")
        check(self, "min_p", self.min_p is None or 0 <= self.min_p <= 1, "at least 0 and at most 1")
        check(self, "seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")


@dataclass(frozen=True, kw_only=True)
class Accounting(Command):
    """Count a model's parameters, FLOPs and memory before it is built."""

    runner: ClassVar[str] = "cs336_basics.cli.accounting:run"
    what: Annotated[Literal["gpt2", "model"], tyro.conf.Positional] = "gpt2"  # GPT-2 small to XL, or --model.*
    run: str = ""  # run folder whose model to count, with its optimizer, batch of a pass and dtype
    batch_size: int = 1  # sequences of a pass, that the FLOPs and the memory are for
    optimizer: Literal["adamw", "muon", "sgd"] = "adamw"  # whose state the memory includes
    model: ModelConfig = field(default_factory=ModelConfig)

    @classmethod
    def starting_point(cls, values: dict[str, Any], words: list[str]) -> dict[str, Any]:
        """Counting a run starts from its own config. Flags for a model that is not the one counted are refused."""
        run = option(words, "--run") or values.get("run", "")
        unused = [word.split("=")[0] for word in words if word.startswith("--model.")]
        table = values.get("model")
        unused += [f"model.{name}" for name in table] if isinstance(table, dict) else []
        if unused and run:
            raise ConfigError(f"{unused[0]} must not be given with a run, whose own model is counted; leave it out")
        if unused and "model" not in (*words, values.get("what")):
            raise ConfigError(f"{unused[0]} must not be given for GPT-2's sizes; say: cs336 accounting model")
        if not (run and isinstance(run, str)):
            return values
        saved = RunFolder(Path(run)).load_config()
        rows = saved.train.batch_size // saved.train.grad_accumulation
        return {"model": to_dict(saved.model), "optimizer": saved.optimizer.name, "batch_size": rows} | values

    def validate(self) -> None:
        super().validate()
        check(self, "batch_size", self.batch_size >= 1, "at least 1")


def _demo_model() -> ModelConfig:
    return ModelConfig(vocab_size=2048, context_length=128, d_model=192, n_heads=6, qk_norm=True)


def _demo_optimizer() -> OptimizerConfig:
    return OptimizerConfig(name="muon", lr=4e-3, min_lr_ratio=0.02)


def _demo_train() -> TrainConfig:
    return TrainConfig(steps=500, batch_size=16, dtype="auto", eval_every=100, eval_batches=8, log_every=10)


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """From raw text to a generating model in one command; its text is Python's own documentation."""

    runner: ClassVar[str] = "cs336_basics.cli.demo:run"
    lighter: ClassVar[str] = _LIGHTER_TRAINING
    run: str = "runs/demo"  # run folder; must not hold a run yet
    text: str = ""  # UTF-8 text of your own, documents apart by <|endoftext|>; default: the standard library's docs
    valid_share: float = 0.08  # part of the text held out, whole documents where they fit
    prompt: str = "Return a "  # text that the trained model continues; special tokens in it are taken as such
    model: ModelConfig = field(default_factory=_demo_model)
    optimizer: OptimizerConfig = field(default_factory=_demo_optimizer)
    train: TrainConfig = field(default_factory=_demo_train)

    def validate(self) -> None:
        super().validate()
        check(self, "valid_share", 0 < self.valid_share < 1, "above 0 and below 1")
        RunFolder(Path(self.run)).require_new(another="another: --run FOLDER (nox -s demo -- --run FOLDER)")

    def goes_on(self) -> tuple[str, ...]:
        return _resume(self.run)


COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "tokenizer train": TokenizerTrain,
    "tokenizer encode": TokenizerEncode,
    "tokenizer decode": TokenizerDecode,
    "tokenizer inspect": TokenizerInspect,
    "train": Train,
    "evaluate": Evaluate,
    "generate": Generate,
    "accounting": Accounting,
    "runs list": RunsList,
    "runs show": RunsShow,
    "runs compare": RunsCompare,
    "export": Export,
}
