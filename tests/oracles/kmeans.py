"""scikit-learn's K-means from given centroids, and a stand-in for cupy on machines without a GPU."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans


def fit(vectors: NDArray[Any], start: NDArray[Any], *, max_iterations: int = 300, tolerance: float = 1e-4) -> KMeans:
    """Lloyd's algorithm of scikit-learn in float64 from the centroids `start`."""
    model = KMeans(
        len(start), init=start.astype(np.float64), n_init=1, algorithm="lloyd", max_iter=max_iterations, tol=tolerance
    )
    return model.fit(vectors.astype(np.float64))


class Device(np.ndarray):
    """An array in pretended device memory: it refuses arithmetic with host arrays, and numpy's functions."""

    def get(self) -> NDArray[Any]:
        """The array in host memory."""
        return np.array(self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        for value in (*inputs, *kwargs.get("out", ())):
            if type(value) is np.ndarray and value.ndim:
                raise TypeError(f"{ufunc.__name__} of a device array and a host array")
        bare = [value.view(np.ndarray) if isinstance(value, Device) else value for value in inputs]
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = tuple(value.view(np.ndarray) for value in out)
        result = getattr(ufunc, method)(*bare, **kwargs)
        return out[0] if out is not None else np.asarray(result).view(Device)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy's {function.__name__} of a device array")

    def argmax(self, *args: Any, **kwargs: Any) -> Self:
        """As numpy's, on the device."""
        return self.view(np.ndarray).argmax(*args, **kwargs).view(type(self))


class _DeviceModule:
    """Numpy's functions for `Device` arrays; types and constants are numpy's own, as cupy's are."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found

        def bare(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return type(value)(bare(item) for item in value)
            if type(value) is np.ndarray and value.ndim and name not in ("asarray",):
                raise TypeError(f"cupy's {name} of a host array")
            return value.view(np.ndarray) if isinstance(value, Device) else value

        def called(*args: Any, **kwargs: Any) -> Any:
            result = found(*map(bare, args), **{key: bare(value) for key, value in kwargs.items()})
            if isinstance(result, tuple):
                return tuple(np.asarray(item).view(Device) for item in result)
            return np.asarray(result).view(Device)

        return called


DEVICE_MODULE = _DeviceModule()
"""Those functions of cupy that clustering uses, for `Device` arrays."""
