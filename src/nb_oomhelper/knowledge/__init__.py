"""What the project knows: problems and remedies, one TOML file each.

``entries/*.toml`` hold one problem each, ``fixes/*.toml`` one remedy each. A person's own files have the same form:
the keys are the attributes of `Entry` and `Fix`; a list that is left out is empty and means "any"; a fix's words stand
in tables ``[en]`` and ``[zh]``, and its ``[[example]]`` tables are its tests.
"""
