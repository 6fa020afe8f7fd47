"""The form in which ArviZ takes log p(x) of each image, for its `plot_khat` and `compare`.

ArviZ has a class for pointwise log predictive densities with their k-hat, which it fills by
leave-one-out ("loo"). Its names stand here for log p(x) of each image: no image is left out. The
class has moved between ArviZ 0.2x and 1.x, and changed; all that depends on it is in this module.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pyro_vae.errors import InputError
from pyro_vae.likelihood.psis import khat_threshold, passes


def pointwise(value: np.ndarray, khat: np.ndarray, num_samples: int) -> Any:
    """Return ArviZ's ELPDData of log p(x), `(B,)`, whose sum is its estimate; needs ArviZ."""
    try:
        from xarray import DataArray

        make = _maker()
    except ImportError as error:
        raise InputError("to_arviz needs ArviZ: pip install arviz") from error
    by_image = {"dims": ["image"], "coords": {"image": np.arange(len(value))}}
    return make(
        {
            "elpd": float(value.sum()),
            "se": float(np.sqrt(len(value) * value.var())),
            "p": float("nan"),  # of leave-one-out alone
            "n_samples": num_samples,
            "n_data_points": len(value),
            "scale": "log",
            "warning": not passes(khat, num_samples).all(),
            "good_k": khat_threshold(num_samples),
            "elpd_i": DataArray(value, **by_image),
            "pareto_k": DataArray(khat, **by_image),
        }
    )


def _maker() -> Callable[[dict], Any]:
    """Return what makes ArviZ's class from its fields, by the names that they have in ArviZ 1."""
    try:
        from arviz_stats import utils
    except ImportError:  # 0.2x: a series of pandas's with names of its own
        from arviz.stats.stats_utils import ELPDData

        names = {"elpd": "elpd_loo", "p": "p_loo", "elpd_i": "loo_i"}
        return lambda fields: ELPDData([*fields.values()], [names.get(n, n) for n in fields])
    if hasattr(utils, "ELPDDataLOO"):
        return lambda fields: utils.ELPDDataLOO(**fields)
    return lambda fields: utils.ELPDData(kind="loo", **fields)  # 1.0
