"""The type checker of a test run: shapes by jaxtyping; a whole number counts as a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
