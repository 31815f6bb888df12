"""Words of captions and of strings, and what BM25 knows of them: statistics of the training videos.

They are stored in the checkpoint: a video's score depends neither on the other videos of a gallery
nor on how it is divided into blocks, and `m2hf search` gives a caption the scores of `m2hf eval`.
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Annotated, Self

from pydantic import Field

from m2hf.config import Section

K1, B = 1.5, 0.75  # saturation of repeated words, and share of the length; the defaults of bm25s

_PARTS_OF_WORDS = "LMN"  # general categories: letters, marks, numbers

Count = Annotated[int, Field(ge=0, strict=True)]


def words_of(text: str) -> list[str]:
    """The words of `text` in order: runs of letters, marks and digits, in NFKC and caseless.

    No stemming and no stop words: what is frequent has little weight. A script without spaces
    between words gives one word a run, which is found only where a query has the same run.
    """
    caseless = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    runs = groupby(caseless, lambda c: unicodedata.category(c)[0] in _PARTS_OF_WORDS)
    return ["".join(run) for inside, run in runs if inside]


class WordStatistics(Section):
    """Of a collection of documents, each of which is the strings of one video."""

    documents: Count
    """Number of documents."""
    words: Count
    """Number of words in all of them, repetitions included."""
    frequency: dict[str, Annotated[Count, Field(ge=1)]]
    """Number of documents that a word occurs in, by word."""

    @classmethod
    def of(cls, documents: Iterable[Sequence[str]]) -> Self:
        """documents: the words of each."""
        count, words, frequency = 0, 0, Counter[str]()
        for document in documents:
            count, words = count + 1, words + len(document)
            frequency.update(set(document))
        return cls(documents=count, words=words, frequency=dict(sorted(frequency.items())))

    def weights(self, document: Sequence[str]) -> Mapping[str, float]:
        """What each word of a document adds to the score of a query that has it (BM25, in
        Lucene's form, which has no negative weights)."""
        mean = self.words / self.documents if self.words else 1.0
        penalty = K1 * (1 - B + B * len(document) / mean)
        counts = Counter(document)
        return {word: self._rarity(word) * n / (n + penalty) for word, n in counts.items()}

    def _rarity(self, word: str) -> float:
        """The inverse document frequency; highest for a word that no training video has."""
        with_word = self.frequency.get(word, 0)
        return math.log1p((self.documents - with_word + 0.5) / (with_word + 0.5))
