"""What the sections of both panels have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..errors import Cancelled, SuperResError


class Section:
    """One collapsible part of a panel; a subclass overrides what it needs.

    Attributes
    ----------
    parameters : a parameter node wrapper, or None
        What is shown and changed; None while no scene is followed.
    isBusy : bool
        Whether `poll` is to be called every tenth of a second.
    whenChanged : callable ()
        Set by the panel. To be called when something that another section shows has changed outside of the parameters,
        and when `isBusy` has changed; the panel then refreshes all sections.
    """

    isBusy = False

    def __init__(self, ui) -> None:
        self.ui = ui
        self.parameters = None
        self.whenChanged: Callable[[], None] = lambda: None

    def bind(self, parameters) -> None:
        """Show and follow these parameters; widgets with SlicerParameterName are connected by the panel."""
        self.parameters = parameters

    def unbind(self) -> None:
        """Follow them no longer: the module is left, or the scene closes. Work that was asked for goes on."""
        self.parameters = None

    def refresh(self) -> None:
        """Show everything as it is now. Called after every change, so it must be cheap and must not cause another."""

    def poll(self) -> None:
        """Go on with what is running, for at most 50 ms."""

    def close(self) -> None:
        """End everything, now: processes, timers, observers, nodes that were only shown. The panel may go on after."""


def logError(error: SuperResError) -> None:
    """Write an error with its details to the application's log, unless the user asked for the end."""
    if not isinstance(error, Cancelled):
        logging.error("%s\n%s", error, getattr(error, "detail", ""))
