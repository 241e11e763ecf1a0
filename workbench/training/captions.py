"""Frozen text features of a data set's captions: encoded once, kept on disk by the caption's hash.

A frozen encoder gives a caption the same features for ever, so no step of a training, and no second training,
pays for them again. Letters: N captions, T tokens (the encoder's context), d its width, e of the embedding.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from workbench.images import write_whole
from workbench.models.text import TextEncoder, TextFeatures, TwoEncoders

Encoder = TextEncoder | TwoEncoders
_ENCODE, _PART = 256, 2048  # captions encoded at once, and in one file
_LOOKED = 10_000  # captions of a set on disk that are checked for length: a millisecond each
_MOST_BYTES = 2 << 30  # of features held in memory; beyond it they are read from disk, a batch at a time


class CaptionStore:
    """A folder of features, in a subfolder for each encoder: part-*.safetensors with eps_txt [n, L, d], eot
    [n], embedding [n, e] in half precision, and the captions' hashes as metadata.

    L is as long as the part's longest caption: what follows a caption's end is never looked at. A part is
    whole or not there; one that cannot be read is encoded anew, and said.
    """

    def __init__(self, folder: Path, encoder: Encoder, say: Callable[[str], None] = print) -> None:
        self.encoder, self.folder = encoder, folder / encoder.fingerprint()[:16]
        self._place: dict[str, tuple[Path, int]] = {}
        for file in sorted(self.folder.glob("part-*.safetensors")):
            try:
                with safe_open(file, framework="pt") as part:
                    hashes = json.loads(part.metadata()["captions"])
            except (SafetensorError, KeyError, TypeError, ValueError) as error:
                say(f"{file} cannot be read ({error}): its captions are encoded again.")
                file.unlink()
                continue
            self._place |= {digest: (file, row) for row, digest in enumerate(hashes)}

    def add(self, captions: Sequence[str]) -> int:
        """Encode the captions that are not there yet; returns how many. Raises OSError if it cannot write."""
        missing = [text for text in dict.fromkeys(captions) if caption_hash(text) not in self._place]
        for start in range(0, len(missing), _PART):
            self._write(missing[start : start + _PART])
        return len(missing)

    def _write(self, captions: list[str]) -> None:
        features = _encoded(self.encoder, captions)
        hashes = [caption_hash(text) for text in captions]
        length = int(features.eot.max()) + 1
        tensors = {
            "eps_txt": features.eps_txt[:, :length].cpu().contiguous(),
            "eot": features.eot.cpu(),
            "embedding": features.embedding.cpu(),
        }
        # named by its content: two processes that write the same captions write the same file
        file = self.folder / f"part-{hashlib.sha256(''.join(hashes).encode()).hexdigest()[:16]}.safetensors"
        data = save(tensors, metadata={"captions": json.dumps(hashes)})
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, lambda handle: handle.write(data))
        self._place |= {digest: (file, row) for row, digest in enumerate(hashes)}

    def read(self, captions: Sequence[str]) -> TextFeatures:
        """Features of N captions that were added: half precision, on the CPU, eps_txt padded to [N, T, d]."""
        places = [self._place[caption_hash(text)] for text in captions]
        by_file: dict[Path, list[int]] = {}
        for at, (file, _) in enumerate(places):
            by_file.setdefault(file, []).append(at)
        parts, order = [], []
        for file, rows in by_file.items():
            with safe_open(file, framework="pt") as part:
                parts.append(self._rows(part, [places[at][1] for at in rows]))
            order += rows
        return TextFeatures.cat(parts).index_select(torch.tensor(order).argsort())

    def _rows(self, part, rows: list[int]) -> TextFeatures:
        taken = {}
        for name in ("eps_txt", "eot", "embedding"):
            if len(rows) > _ENCODE:  # most of the file: read it at once
                taken[name] = part.get_tensor(name)[rows]
            else:
                held = part.get_slice(name)
                taken[name] = torch.cat([held[row : row + 1] for row in rows])
        room = self.encoder.context_length - taken["eps_txt"].shape[1]
        return TextFeatures(F.pad(taken["eps_txt"], (0, 0, 0, room)), taken["eot"], taken["embedding"])


class CaptionTable:
    """Features of a data set's captions, picked by row at each step.

    folder: where they are kept between runs (None, or one that cannot be written: memory alone). A set too
    large for memory is read from the folder, or else encoded, batch by batch.
    """

    def __init__(
        self,
        texts: list[str],
        encoder: Encoder,
        device: torch.device,
        *,
        folder: Path | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.encoder, self.device, self.store = encoder, device, None
        distinct = list(dict.fromkeys(texts))
        self.row = {text: k for k, text in enumerate(distinct)}
        if folder is not None:
            try:
                self.store = CaptionStore(folder, encoder, say)
                self.store.add(distinct)
            except OSError as error:
                say(f"Text features are not kept for the next run: {error}")
                self.store = None
        self.features: TextFeatures | None = None
        if len(distinct) * encoder.context_length * encoder.text_dim * 2 <= _MOST_BYTES:
            self.features = (self.store.read(distinct) if self.store else _encoded(encoder, distinct)).to(
                device
            )
        self._say_what_is_cut(distinct, say)

    def _say_what_is_cut(self, distinct: list[str], say: Callable[[str], None]) -> None:
        """One sentence if captions are longer than the encoder's context; of a set too large for memory, the
        first ones are looked at.
        """
        looked, room = distinct, self.encoder.context_length
        if self.features is None:
            looked = may = distinct[:_LOOKED]
        else:  # a word in several tokens that does not fit leaves free places before the last
            ends = self.features.eot.tolist()
            may = [text for text, end in zip(distinct, ends, strict=True) if end > room // 2]
        if cut := [text for text in may if self.encoder.truncated_words(text)]:
            say(
                f"{len(cut)} of {len(looked)} captions are longer than the {room} tokens that the text "
                f"encoder reads, and are cut there (the first: {cut[0][:60]!r}). Say what matters first, or "
                "shorten them."
            )

    def of(self, captions: list[str]) -> TextFeatures:
        """Features of B captions on the device, float32. eps_txt [B, T, d]."""
        if self.features is not None:
            picked = self.features.index_select(torch.tensor([self.row[text] for text in captions]))
        elif self.store is not None:
            picked = self.store.read(captions).to(self.device)
        else:
            return self.encoder(captions).to(self.device)
        return TextFeatures(picked.eps_txt.float(), picked.eot, picked.embedding.float())


def caption_hash(caption: str) -> str:
    """SHA-256 of a caption's text."""
    return hashlib.sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()


def _encoded(encoder: Encoder, captions: list[str]) -> TextFeatures:
    """Features in half precision: float16 where its range holds them, else bfloat16."""
    features = TextFeatures.cat(
        [encoder(captions[at : at + _ENCODE]) for at in range(0, len(captions), _ENCODE)]
    )
    fits = features.eps_txt.abs().max() < 60_000
    low = features.eps_txt.half() if fits else features.eps_txt.bfloat16()
    return TextFeatures(low, features.eot, features.embedding.half())
