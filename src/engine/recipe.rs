//! stub
use super::job::CopyJob;
use crate::error::Error;
pub(crate) struct Recipe(String);
impl Recipe {
    pub(crate) fn of(job: &CopyJob) -> Self {
        Self(format!(
            "{:?} {:?} {:?} {:?}",
            job.filter, job.files_from, job.existing, job.preserve
        ))
    }
    pub(crate) fn hash(&self) -> [u8; 32] {
        *blake3::hash(self.0.as_bytes()).as_bytes()
    }
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, Error> {
        Ok(self.0.clone().into_bytes())
    }
}
