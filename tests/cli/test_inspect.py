"""`cs336 tokenizer inspect`: the tokens, texts, another tokenizer and figures that it shows, and what it refuses."""

import re
from pathlib import Path

import pytest

from cs336_basics.cli.commands import TokenizerEncode, TokenizerInspect
from cs336_basics.cli.inspect import duration, shown
from cs336_basics.cli.stdlib_text import END
from cs336_basics.tokenizer import Tokenizer, text_size
from tests.cli.small import run
from tests.cli.test_next import next_command

pytestmark = pytest.mark.e2e


def table(out: str, title: str) -> list[list[str]]:
    """The rows under a title as cells, which two spaces part; no row is out of line with its heads."""
    lines = out.splitlines()
    rows: list[str] = []
    for line in lines[lines.index(f"{title}:") + 1 :]:
        if not line.startswith("  ") or line.startswith("  ("):
            break
        rows.append(line)
    return [re.split(r" {2,}", row.strip(), maxsplit=3 if "token" in rows[0].split()[-1:] else 0) for row in rows]


def test_it_shows_the_size_and_the_longest_tokens(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer inspect tok --longest 3") == 0
    out = capsys.readouterr().out
    tokenizer = Tokenizer.load(work / "tok")
    first, second, *_ = out.splitlines()
    assert first == f"tok: 300 tokens, 43 merges, special: {END} (299)"
    assert second == f"  fingerprint {tokenizer.fingerprint()}"
    heads, *rows = table(out, "longest")
    assert heads == ["id", "length", "bytes", "token"]
    lengths = sorted(map(len, tokenizer.vocab.values()), reverse=True)
    assert [int(row[1]) for row in rows] == lengths[:3]
    assert rows[0][2:] == ["3c 7c 65 6e 64 6f 66 74 ..", f"'{END}'"]
    then = next_command(out)
    assert isinstance(then, TokenizerInspect)
    assert (then.tokenizer, then.text) == ("tok", ("FILE",))


def test_it_lists_the_ids_asked_for(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer inspect tok --longest 0 --first 2 --last 2 --ids 255:258") == 0
    out = capsys.readouterr().out
    vocab = Tokenizer.load(work / "tok").vocab
    assert "longest" not in out
    for title, ids in (("first 2", [0, 1]), ("ids 255 to 257", [255, 256, 257]), ("last 2", [298, 299])):
        _, *rows = table(out, title)
        assert [int(row[0]) for row in rows] == ids
        assert [row[3] for row in rows] == [shown(vocab[index]) for index in ids]
    assert table(out, "ids 255 to 257")[1] == ["255", "1", "ff", "b'\\xff'"]


def test_ids_beyond_the_vocabulary_are_left_out(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer inspect tok --longest 0 --first 1000 --last 1000 --ids 290:900000000") == 0
    out = capsys.readouterr().out
    assert len(table(out, "first 300")) == len(table(out, "last 300")) == 301
    assert len(table(out, "ids 290 to 299")) == 11


def test_it_measures_two_tokenizers_on_two_texts(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "other.txt").write_text("Fuchs und Bär und Huhn. " * 50, encoding="utf-8")
    assert run(work, "tokenizer train other.txt --out other --vocab-size 280 --workers 1") == 0
    capsys.readouterr()
    assert run(work, "tokenizer inspect tok --against other --text text.txt other.txt") == 0
    out = capsys.readouterr().out
    heads, *rows = table(out, "texts")
    assert heads == ["text", "size", "tokenizer", "tokens", "bytes/token", "MB/s", "the Pile"]
    pairs = [(text, folder) for text in ("text.txt", "other.txt") for folder in ("tok", "other")]
    assert [(row[0], row[2]) for row in rows] == pairs
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        text, folder, speed = row[0], row[2], float(row[5])
        n_tokens = len(Tokenizer.load(work / folder).encode((work / text).read_text(encoding="utf-8")))
        assert row[3] == f"{n_tokens:,}"
        assert row[4] == f"{text_size(work / text) / n_tokens:.3f}"
        assert re.fullmatch(r"[\d.]+ (days|hours|minutes)", row[6])
        assert speed > 0
        counts[text, folder] = n_tokens
    for text, word in (("text.txt", "fewer"), ("other.txt", "more")):
        share = abs(counts[text, "tok"] / counts[text, "other"] - 1)
        assert f"{text}: tok needs {share:.1%} {word} tokens than other\n" in out
    in_both = {*Tokenizer.load(work / "tok").vocab.values()} & {*Tokenizer.load(work / "other").vocab.values()}
    assert f"tokens in both: {len(in_both)}\n" in out
    assert out.count(" begins: ") == 4


def test_a_tokenizer_against_itself(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer inspect tok --against tok --text text.txt") == 0
    out = capsys.readouterr().out
    assert "tokens in both: 300\n" in out
    assert "text.txt: tok needs as many tokens as tok\n" in out


def test_special_tokens_of_the_text_are_taken_as_such(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "end.txt").write_text(END * 3)
    assert run(work, "tokenizer inspect tok --text end.txt") == 0
    assert f"end.txt by tok begins: {' '.join([repr(END)] * 3)}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--ids 5", "ids must be two ids such as 256:300, got '5'"),
        ("--ids 300:301", "ids must begin below 300, the number of tokens, got '300:301'"),
        ("--ids 9:5", "ids must be two ids such as 256:300, got '9:5'"),
        ("--ids=-3:5", "ids must be two ids such as 256:300, got '-3:5'"),
        ("--first -1", "first must be at least 0, got -1"),
        ("--last -1", "last must be at least 0, got -1"),
        ("--against nowhere", "against: nowhere holds no tokenizer; make one with cs336 tokenizer train"),
        ("--text none.txt", "text must be a file to read, got none.txt (No such file or directory)"),
    ],
)
def test_it_names_the_bad_option(words: str, message: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, f"tokenizer inspect tok {words}") == 2
    captured = capsys.readouterr()
    assert captured.err == f"cs336 tokenizer inspect: error: {message}\n"
    assert captured.out == ""


def test_an_empty_name_of_a_text(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer inspect tok --text", "") == 2
    assert "error: text must be names of one character or more, got ('',)\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "text must hold text, bad.txt is empty"), (b"ab\xff", "text must be UTF-8 text")]
)
def test_inspect_refuses_a_bad_text_before_it_prints(
    work: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "bad.txt").write_bytes(content)
    assert run(work, "tokenizer inspect tok --text bad.txt") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"cs336 tokenizer inspect: error: {message}")
    assert captured.out == ""


def test_inspect_shows_how_it_cuts_the_text_and_what_comes_next(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer inspect tok --text text.txt") == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if " begins: " in line]
    cut = line.removeprefix("text.txt by tok begins: '").removesuffix("'").split("' '")
    assert len(cut) == 12
    assert "".join(cut) == "Once upon a time there was a fox who ate 0 apples."[: len("".join(cut))]
    then = next_command(out)
    assert isinstance(then, TokenizerEncode)
    assert (then.text, then.tokenizer, then.out) == ("text.txt", "tok", "text.bin")


def test_durations_and_tokens_in_words() -> None:
    assert [duration(seconds) for seconds in (0.5, 60, 3600, 86_400)] == [
        "0.5 seconds", "1.0 minutes", "1.0 hours", "1.0 days",
    ]  # fmt: skip
    assert [shown(token) for token in (b" a", "é".encode(), b"\n", b"'", b"\xe6\xbc")] == [
        "' a'", "'é'", "'\\n'", '"\'"', "b'\\xe6\\xbc'",
    ]  # fmt: skip
