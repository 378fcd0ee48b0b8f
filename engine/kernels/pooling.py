"""From sub-words to words, and from long sentences to windows: integers only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def word_spans(word_ids: Sequence[int | None], words: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last sub-word of every word of a sentence.

    Parameters
    ----------
    word_ids
        Word index of each sub-word, None for special tokens, as fast tokenizers give them.
    words
        Number of words of the sentence.

    Returns
    -------
    (word) first sub-word and (word) last sub-word, both -1 where the tokenizer dropped the word.

    Examples
    --------
    >>> first, last = word_spans([None, 0, 0, 2, None], 3)
    >>> first.tolist(), last.tolist()
    ([1, -1, 3], [2, -1, 3])
    """
    first = np.full(words, -1, np.int64)
    last = np.full(words, -1, np.int64)
    for place, word in enumerate(word_ids):
        if word is not None:
            if first[word] < 0:
                first[word] = place
            last[word] = place
    return first, last


def spans_in_text(
    offsets: Sequence[tuple[int, int]], special: Sequence[int], words: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last sub-word of every word of a text in which single spaces part the words.

    A sub-word belongs to each word that it shares a character with; the space before a word belongs to none.

    Parameters
    ----------
    offsets
        Half-open range of characters of each sub-word.
    special
        1 for special tokens.
    words
        The words.

    Returns
    -------
    As `word_spans`.

    Examples
    --------
    >>> first, last = spans_in_text([(0, 0), (0, 2), (2, 3), (3, 6)], [1, 0, 0, 0], ["abc", "de"])
    >>> first.tolist(), last.tolist()
    ([1, 3], [2, 3])
    """
    lengths = np.array([len(word) for word in words], np.int64)
    starts = np.cumsum(lengths + 1) - lengths - 1
    stops = starts + lengths
    first = np.full(len(words), -1, np.int64)
    last = np.full(len(words), -1, np.int64)
    for place, (low, high) in enumerate(offsets):
        if special[place] or high <= low:
            continue
        # the words that end after the sub-word begins, up to the one that begins before it ends
        begin, end = np.searchsorted(stops, low, side="right"), np.searchsorted(starts, high, side="left")
        for word in range(begin, end):
            if first[word] < 0:
                first[word] = place
            last[word] = place
    return first, last


def windows(length: int, capacity: int) -> list[tuple[int, int]]:
    """Half-open ranges of at most `capacity` sub-words that cover a sentence, each half over the one before.

    Examples
    --------
    >>> windows(10, 4)
    [(0, 4), (2, 6), (4, 8), (6, 10)]
    """
    if length <= capacity:
        return [(0, length)]
    step = max(1, capacity // 2)
    starts = [*range(0, length - capacity, step), length - capacity]
    return [(start, start + capacity) for start in starts]


def best_window(
    first: NDArray[np.integer], last: NDArray[np.integer], ranges: Sequence[tuple[int, int]], *, causal: bool
) -> NDArray[np.int64]:
    """The window (word) in which each word has most context, -1 where none holds all of it.

    Context is the lesser number of sub-words to the left and right of the word, a side that reaches the end of the
    sentence counting as without limit; for a causal model the number to the left. Of equals the first window.

    Parameters
    ----------
    first, last
        (word) span of each word, in sub-words of the sentence.
    ranges
        Windows, as `windows` gives them.

    Examples
    --------
    >>> best_window(np.array([0, 3, 9]), np.array([0, 3, 9]), windows(10, 4), causal=False).tolist()
    [0, 1, 3]
    """
    end = ranges[-1][1]
    best = np.full(len(first), -1, np.int64)
    most = np.full(len(first), -1, np.int64)
    unlimited = np.int64(2**62)
    for number, (start, stop) in enumerate(ranges):
        left = first - start if causal or start else np.full(len(first), unlimited)
        right = np.full(len(first), unlimited) if causal or stop == end else stop - 1 - last
        context = np.where((first >= start) & (last < stop), np.minimum(left, right), -1)
        better = context > most
        best[better], most[better] = number, context[better]
    return best
