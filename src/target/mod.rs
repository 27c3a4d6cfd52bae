//! Port 3: where copies end up.
