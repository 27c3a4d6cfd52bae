//! Paths by held descriptors.
