//! stub
use super::{Source, identity};
use crate::error::Error;
use crate::journal::{self, Identity};
use crate::topology::Topology;
use std::os::fd::AsFd;

#[derive(Debug)]
pub struct Matched {
    pub index: u32,
    pub landing: Vec<u8>,
    pub note: Option<String>,
}
#[derive(Debug)]
pub enum Recognised {
    Same(Vec<Matched>),
    Other(String),
}
pub fn source_identity(source: &Source, topology: &Topology) -> Result<Identity, Error> {
    let location = topology.locate(source.path())?;
    identity(source.root.as_fd(), &location).map_err(|e| Error::source(&source.label, "look at", e))
}
pub fn recognise(recorded: &[journal::Source], sources: &[Source], ids: &[Identity]) -> Recognised {
    let mut next = recorded.iter().map(|r| r.index + 1).max().unwrap_or(0);
    let mut any = false;
    let out = sources
        .iter()
        .zip(ids)
        .map(|(s, id)| {
            match recorded
                .iter()
                .find(|r| r.landing == s.landing && r.identity == *id)
            {
                Some(r) => {
                    any = true;
                    Matched {
                        index: r.index,
                        landing: r.landing.clone(),
                        note: None,
                    }
                }
                None => {
                    next += 1;
                    Matched {
                        index: next - 1,
                        landing: s.landing.clone(),
                        note: None,
                    }
                }
            }
        })
        .collect();
    if any {
        Recognised::Same(out)
    } else {
        Recognised::Other("no source of it is among these".into())
    }
}
