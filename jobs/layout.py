"""Where everything lies in a study directory."""

from dataclasses import dataclass

from engine.paths import join


@dataclass(frozen=True)
class Layout:
    """Paths of a study's datasets; the root may be any fsspec URL."""

    root: str

    @property
    def study(self) -> str:
        """The frozen study file."""
        return join(self.root, "study.yaml")

    @property
    def records(self) -> str:
        """Commit records, one file a finished task."""
        return join(self.root, "records")

    @property
    def folders(self) -> list[str]:
        """Everything that a study writes besides its frozen file."""
        names = (
            "selections", "links", "dictionaries", "activations", "concepts", "counts", "uncertainty", "properties",
            "records", "figures",
        )  # fmt: skip
        return [self.corpus, self.results, *(join(self.root, name) for name in names)]

    def figure(self, name: str) -> str:
        """A figure, such as calign.png."""
        return join(self.root, "figures", name)

    @property
    def lease(self) -> str:
        """Who works in the directory."""
        return join(self.root, "lease.json")

    @property
    def corpus(self) -> str:
        """CORPUS dataset."""
        return join(self.root, "corpus.zarr")

    @property
    def results(self) -> str:
        """Results tree."""
        return join(self.root, "results.zarr")

    @property
    def ledger(self) -> str:
        """LEDGER dataset: attempts at tasks, of all runs."""
        return join(self.root, "ledger.zarr")

    @property
    def journal(self) -> str:
        """Folder of what the run at work has not brought into the ledger yet."""
        return join(self.root, "journal")

    def model(self, checkpoint: str) -> str:
        """Folder of a checkpoint that the study makes, in transformers' format."""
        return join(self.root, "models", checkpoint)

    @property
    def labels(self) -> str:
        """LABELS dataset."""
        return join(self.root, "labels.zarr")

    @property
    def answers(self) -> str:
        """What a language model has answered, a line each."""
        return join(self.root, "answers.jsonl")

    def selection(self, language: str) -> str:
        """SELECTION dataset of a language."""
        return join(self.root, "selections", f"{language}.zarr")

    def links(self, source: str, target: str) -> str:
        """LINKS dataset of a pair."""
        return join(self.root, "links", f"{source}-{target}.zarr")

    def dictionary(self, source: str, target: str) -> str:
        """DICTIONARY dataset of one direction of a pair."""
        return join(self.root, "dictionaries", f"{source}-{target}.zarr")

    def activations(self, checkpoint: str, stack: str, language: str) -> str:
        """ACTIVATIONS dataset."""
        return join(self.root, "activations", checkpoint, stack, f"{language}.zarr")

    def previous_activations(self, checkpoint: str, stack: str, language: str) -> str:
        """ACTIVATIONS dataset of before a study grew, from which vectors are taken until the new one is whole."""
        return join(self.root, "activations", checkpoint, stack, f"{language}.previous.zarr")

    def concepts(self, checkpoint: str, stack: str, selection: str) -> str:
        """CONCEPTS dataset of a language, or of a set of languages joined by +."""
        return join(self.root, "concepts", checkpoint, stack, f"{selection}.zarr")

    def checkpoints(self, checkpoint: str, stack: str, selection: str) -> str:
        """Folder of the centroids of a clustering that is not finished, by its fingerprint."""
        return join(self.root, "concepts", checkpoint, stack, f"{selection}.fit")

    def aligned_types(self, checkpoint: str, stack: str, k: int, source: str, target: str) -> str:
        """ALIGNED_TYPES dataset of one direction of a pair."""
        return join(self._counts(checkpoint, stack, k), f"{source}-{target}.zarr")

    def mixed_aligned_types(
        self, checkpoint: str, stack: str, k: int, language_set: str, source: str, target: str
    ) -> str:
        """ALIGNED_TYPES dataset between the words of two languages in the same concepts of mixed text."""
        return join(self._counts(checkpoint, stack, k), language_set, f"{source}-{target}.zarr")

    def language_count(self, checkpoint: str, stack: str, k: int, language_set: str) -> str:
        """LANGUAGE_COUNT dataset of a set of languages joined by +."""
        return join(self._counts(checkpoint, stack, k), f"{language_set}.zarr")

    def uncertainty(self, checkpoint: str, stack: str, *names: str) -> str:
        """CALIGN_UNCERTAINTY_OF_PART of a source and its targets joined by +, or COLAP_UNCERTAINTY_OF_PART of a set."""
        return join(self.root, "uncertainty", checkpoint, stack, *names[:-1], f"{names[-1]}.zarr")

    def properties(self, checkpoint: str, stack: str, selection: str) -> str:
        """PROPERTIES_OF_PART dataset of the concepts of one language."""
        return join(self.root, "properties", checkpoint, stack, f"{selection}.zarr")

    def _counts(self, checkpoint: str, stack: str, k: int) -> str:
        return join(self.root, "counts", checkpoint, stack, str(k))
