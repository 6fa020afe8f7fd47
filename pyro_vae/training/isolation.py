"""What a training leaves alone: the caller's random numbers and Pyro parameters."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import pyro
from pyro.params import user_param_name

from pyro_vae.memory import memory_kept
from pyro_vae.programs import Program, forget, modules_of
from pyro_vae.seeds import GLOBAL_STATE_LOCK, random_state_kept

Result = TypeVar("Result")


def isolated(training: Callable[..., Result]) -> Callable[..., Result]:
    """Let `training(model, guide, ...)` start from an empty parameter store.

    Store and random numbers are restored afterwards. What model and guide register by `pyro.param`
    stays in the store, in place of the caller's parameters of these names. The parameters of
    modules leave it, and can be copied again.
    """

    @wraps(training)
    def call(model: Program, guide: Program, *args: object, **options: object) -> Result:
        store = pyro.get_param_store()
        with random_state_kept(), memory_kept():
            with GLOBAL_STATE_LOCK:
                callers = dict(vars(store))  # clear makes new dictionaries: these stay as they are
                store.clear()
            try:
                return training(model, guide, *args, **options)
            finally:
                with GLOBAL_STATE_LOCK:
                    trained = store.get_state()  # takes Pyro's mark off the tensors
                    vars(store).update(callers)
                    _keep(trained, model, guide)

    return call


def _keep(trained: dict, model: Program, guide: Program) -> None:
    """Put those of the trained parameters into the store that are no module's."""
    store = pyro.get_param_store()
    of_modules = {id(weight) for part in modules_of(model, guide) for weight in part.parameters()}
    for name, parameter in trained["params"].items():
        by_module = user_param_name(name) != name  # registered by pyro.module
        if name in store and not by_module:
            forget(name)  # a PyroModule would read the caller's, of another with the same name
        if not by_module and id(parameter) not in of_modules:
            constraint = trained["constraints"][name]
            store.set_state({"params": {name: parameter}, "constraints": {name: constraint}})
