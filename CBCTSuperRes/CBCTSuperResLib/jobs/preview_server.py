"""The process that computes previews: it keeps torch, the model and the scan from one request to the next.

In the folder of the job lie requests, `request-1.json`, `request-2.json` and so on: the exchange file of the scan as
``volume`` and what a `PreviewRequest` says, or nothing but an empty object, which stops the work. A newer one puts an
end to the older ones. Besides those of every worker, these events are told, each with the ``number`` of its request:

- "canvas" (path, model): the exchange file of the picture, on the grid of the result, interpolated where nothing is
  yet; and the name of the model that is taken;
- "block" (box, share, seconds): a part (k, j, i) of the picture that is there now, and how much of what is visible;
- "complete" (seconds): all that is visible is there;
- "refused" (what, advice, detail): there is no preview of this.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..apply.engines.choice import GRAPH_ENGINES, keep_graph
from ..apply.preview import Canvas, Scan
from ..apply.preview_request import PreviewRequest
from ..core.errors import Cancelled, SuperResError, explained
from ..core.memory import less_memory
from ..io.exchange import remove_exchange
from ..models.folder import default_model
from ..models.model import Model
from .preview import request_file

IDLE_S = 120.0
LOOK_INTERVAL_S = 0.02


class Inbox:
    """The requests in a folder; the newest counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0

    def has_newer(self) -> bool:
        return request_file(self._folder, self._number + 1).exists()

    def take(self) -> tuple[int, dict] | None:
        """The newest request and its number; None if there is none that was not taken."""
        if not self.has_newer():
            return None
        while self.has_newer():
            self._number += 1
        content = json.loads(request_file(self._folder, self._number).read_text(encoding="utf-8"))
        for number in range(self._number, 0, -1):
            with suppress(OSError):
                request_file(self._folder, number - 1).unlink()
        return self._number, content


class PreviewServer:
    """Answers requests until it is stopped, or nobody asked for two minutes.

    Parameters
    ----------
    folder : Path
        Of the job.
    send : callable (event, **values)
        Tells an event.
    stop : callable
        Whether to end.
    idle_s : float
        Time without work after which it ends.
    """

    def __init__(
        self, folder: Path, send: Callable[..., None], stop: Callable[[], bool], idle_s: float = IDLE_S
    ) -> None:
        self._folder, self._send, self._stop, self._idle_s = folder, send, stop, idle_s
        self._inbox = Inbox(folder)
        self._models: dict[tuple, Model] = {}
        self._scan: Scan | None = None
        self._canvas: Canvas | None = None
        self._request: PreviewRequest | None = None

    def serve(self, model: str | None) -> dict:
        """Load a model ahead, or the usual one, then answer; returns a report when nobody asks any more.

        Raises
        ------
        Cancelled
            If it is stopped.
        """
        with suppress(SuperResError):  # told when it is asked for
            self._model(model or str(default_model().path))
        answered, idle_since = 0, time.monotonic()
        while time.monotonic() - idle_since < self._idle_s:
            if self._stop():
                raise Cancelled
            if message := self._inbox.take():
                self._answer(*message)
                answered, idle_since = answered + 1, time.monotonic()
            else:
                time.sleep(LOOK_INTERVAL_S)
        self._let_go()
        return {"answered": answered}

    def _answer(self, number: int, message: dict) -> None:
        """Do what is asked; what cannot be done is told, and the next request is waited for."""
        if not message:
            return
        try:
            self._preview(number, message)
        except Cancelled:
            return
        except Exception as error:
            told = explained(error, less_memory("preview"))
            self._send("refused", number=number, what=told.what, advice=told.advice, detail=told.detail)
        finally:
            torch = sys.modules.get("torch")
            if torch and torch.cuda.is_initialized():
                if self._scan:
                    self._scan.drop_engine()
                torch.cuda.empty_cache()  # while it waits, others may need the memory of the device

    def _preview(self, number: int, message: dict) -> None:
        start = time.monotonic()
        request = PreviewRequest.from_json(message)
        canvas = self._canvas_for(message["volume"], request, number)
        self._send("canvas", number=number, path=str(canvas.path), model=canvas.card.name)
        if not canvas.is_empty:
            self._tell_block(number, canvas, canvas.everything, request, start)
        for area in canvas.areas(request.visible, request.focus):
            box = canvas.fill(area, self._is_outdated)
            self._tell_block(number, canvas, box, request, start)
        self._send("complete", number=number, seconds=time.monotonic() - start)

    def _tell_block(self, number: int, canvas: Canvas, box, request: PreviewRequest, start: float) -> None:
        ends = [(part.start, part.stop) for part in box]
        seconds = time.monotonic() - start
        self._send("block", number=number, box=ends, share=canvas.share(request.visible), seconds=seconds)

    def _is_outdated(self) -> bool:
        return self._stop() or self._inbox.has_newer()

    def _canvas_for(self, volume: str, request: PreviewRequest, number: int) -> Canvas:
        """The picture that the request belongs to: the last one if it is a part of it, otherwise a new one."""
        if self._scan is None or self._scan.path != volume:
            self._let_go()
            self._scan = Scan(volume)
        if self._canvas is None or not request.is_of_one_slice_with(self._request):
            self._drop_canvas()
            path = self._folder / f"canvas-{number}.npy"
            model = request.model or str(self._scan.chosen_card(request.options).path)
            self._canvas = Canvas(path, self._scan, self._model(model, request.options.engine), request)
            self._request = request
        return self._canvas

    def _model(self, path: str, engine: str = "auto") -> Model:
        """The model in a file, with its graph where one is asked for; the last one is kept."""
        key = (path, Path(path).stat().st_mtime_ns if Path(path).exists() else 0, engine in GRAPH_ENGINES)
        if key not in self._models:
            self._models.clear()
            if self._scan:
                self._scan.drop_engine()  # which holds the former one
            self._models[key] = model = Model.load(path)
            if engine in GRAPH_ENGINES:
                keep_graph(model)
        return self._models[key]

    def _let_go(self) -> None:
        """Forget the scan and its picture, and remove their files, which may be large."""
        self._drop_canvas()
        if self._scan:
            path, self._scan = self._scan.path, None
            remove_exchange(path)

    def _drop_canvas(self) -> None:
        if self._canvas:
            path, self._canvas, self._request = self._canvas.path, None, None
            remove_exchange(path)
