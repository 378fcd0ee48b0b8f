"""From sub-words to words."""

import numpy as np
from numpy.typing import NDArray


def word_spans(word_ids: list[int | None], words: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
