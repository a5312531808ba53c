"""Text to token ids, with the Rust tokenizer."""

from pathlib import Path

from tokenizers import Tokenizer


class Tokens:
    """One member's tokenizer. Not shared between threads: each process has its own, and Rust's threads stay off."""

    def __init__(self, path: Path, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return each text's ids, special tokens included, at most `max_length` of them."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
