//! Records that end in NUL, for every name there is.

use super::{Codec, DecodeError, Record, admit, put_digest, split_digest};

/// The format `digest  path NUL`: no escapes, every byte but NUL stands for itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct NulList;

impl Codec for NulList {
    fn name(&self) -> &'static str {
        "nul"
    }

    fn can_express(&self, path: &[u8]) -> bool {
        admit(path).is_ok()
    }

    fn encode(&self, record: &Record, out: &mut Vec<u8>) {
        put_digest(&record.digest, out);
        out.extend_from_slice(&record.path);
        out.push(self.terminator());
    }

    fn decode(&self, frame: &[u8]) -> Result<Record, DecodeError> {
        let (digest, path) = split_digest(frame)?;
        admit(path)?;
        Ok(Record {
            path: path.to_vec(),
            digest,
        })
    }

    fn terminator(&self) -> u8 {
        0
    }
}
