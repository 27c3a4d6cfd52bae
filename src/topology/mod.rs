//! Which physical drive a path is on.
