//! Port 4: the durable list of committed files.
