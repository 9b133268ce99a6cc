"""Qt properties that a stand-in widget stores in itself, so that .ui files and panels can set them."""

from PySide6.QtCore import Property


def stored(type_, name, default=None, changed=None):
    """A stored Qt property with an optional change signal; `self._update(name)`, where there is one, is told of it."""
    attribute = "_" + name

    def get(self):
        return self.__dict__.get(attribute, default)

    def set_(self, value):
        if value != self.__dict__.get(attribute, default):
            self.__dict__[attribute] = value
            if hasattr(self, "_update"):
                self._update(name)
            if changed:
                getattr(self, changed).emit(value)

    return Property(type_, get, set_)
