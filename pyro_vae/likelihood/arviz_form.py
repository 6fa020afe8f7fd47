"""The form in which ArviZ takes log p(x) of each image, for its `plot_khat` and `compare`.

ArviZ has a class for pointwise log predictive densities with their k-hat, which it fills by
leave-one-out ("loo"). Its names stand here for log p(x) of each image: no image is left out. The
class has moved between ArviZ 0.2x and 1.x, and changed; all that depends on it is in this module.
"""

from typing import Any

import numpy as np

from pyro_vae.errors import InputError


def pointwise(value: np.ndarray, khat: np.ndarray, num_samples: int, threshold: float) -> Any:
    """Return ArviZ's ELPDData of log p(x), `(B,)`, whose sum is its estimate; needs ArviZ."""
    try:
        from xarray import DataArray
    except ImportError as error:
        raise InputError("to_arviz needs ArviZ: pip install arviz") from error
    by_image = {"dims": ["image"], "coords": {"image": np.arange(len(value))}}
    fields = {
        "elpd": float(value.sum()),
        "se": float(np.sqrt(len(value) * value.var())),
        "p": float("nan"),  # of leave-one-out alone
        "n_samples": num_samples,
        "n_data_points": len(value),
        "scale": "log",
        "warning": bool((khat > threshold).any()),
        "good_k": threshold,
        "elpd_i": DataArray(value, **by_image),
        "pareto_k": DataArray(khat, **by_image),
    }
    try:
        from arviz_stats import utils
    except ImportError:
        return _before_1(fields)
    if hasattr(utils, "ELPDDataLOO"):
        return utils.ELPDDataLOO(**fields)
    return utils.ELPDData(kind="loo", **fields)  # ArviZ 1.0


def _before_1(fields: dict[str, object]) -> Any:
    """Return the class of ArviZ 0.2x, a series of pandas's with names of its own."""
    try:
        from arviz.stats.stats_utils import ELPDData
    except ImportError as error:
        raise InputError("to_arviz needs ArviZ: pip install arviz") from error
    names = {"elpd": "elpd_loo", "p": "p_loo", "elpd_i": "loo_i"}
    return ELPDData(list(fields.values()), [names.get(name, name) for name in fields])
