use pyo3::{create_exception, exceptions::PyValueError};

create_exception!(microclimate, DefinitionsError, PyValueError, "Definitions have a mistake.");
create_exception!(
    microclimate,
    InputError,
    PyValueError,
    "A frame has no readings that can be used."
);
create_exception!(
    microclimate,
    OrderError,
    InputError,
    "Readings are not in the order of arrival."
);
create_exception!(microclimate, SettingsError, PyValueError, "A setting has an invalid value.");
create_exception!(
    microclimate,
    SnapshotError,
    PyValueError,
    "A snapshot does not fit this engine."
);
