"""Which errors does the program raise on purpose, and what do they promise?

    RealmError
    |-- SettingError    a recipe or an override holds an unknown key or an impossible value
    |-- SourceError     documents, questions or other input of the user cannot be read
    |-- ArtifactError   something this program wrote earlier is missing, damaged or does not fit
    `-- ResourceError   the machine or the installation lacks something: a package, disk, memory

Each message is one line that says what is wrong and what to do. The command line prints it
and exits with status 2; programs catch `RealmError`.
"""


class RealmError(Exception):
    """An error that the user can mend; the message says how."""


class SettingError(RealmError):
    """A recipe or an override holds an unknown key or an impossible value."""


class SourceError(RealmError):
    """Input of the user (documents, questions) cannot be used."""


class ArtifactError(RealmError):
    """A directory that this program wrote is missing, damaged or made from something else."""


class ResourceError(RealmError):
    """The machine or the installation lacks something that the work needs."""
