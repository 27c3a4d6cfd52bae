//! The one place where a ring's answer becomes a number of bytes or an errno.
//!
//! A completion carries `-errno`; everybody else says `+errno`. Turning the sign twice, or never,
//! gives "Unknown error -28" where it should say that the target is full.

use rustix::io::Errno;

/// Returns the bytes moved, or the errno a system call would have set.
///
/// # Errors
/// `EIO` for a value that is no errno at all (below -4095), which a sound kernel never gives.
pub fn from_result(raw: i32) -> Result<usize, Errno> {
    match usize::try_from(raw) {
        Ok(moved) => Ok(moved),
        Err(_) if raw >= -4095 => Err(Errno::from_raw_os_error(-raw)),
        Err(_) => Err(Errno::IO),
    }
}

/// Returns the errno inside an error of the standard library; `EIO` if it holds none.
pub fn from_error(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn a_full_disk_is_called_a_full_disk() {
        let errno = from_result(-28).unwrap_err();
        assert_eq!(errno, Errno::NOSPC);
        assert_eq!(errno.raw_os_error(), 28);
        assert_eq!(errno.kind(), ErrorKind::StorageFull);
        assert_eq!(
            std::io::Error::from(errno).to_string(),
            "No space left on device (os error 28)"
        );
    }

    #[test]
    fn counts_stay_counts_and_nonsense_is_an_io_error() {
        assert_eq!(from_result(0), Ok(0));
        assert_eq!(from_result(1_048_576), Ok(1_048_576));
        assert_eq!(from_result(-5), Err(Errno::IO));
        assert_eq!(from_result(-4095).unwrap_err().raw_os_error(), 4095);
        assert_eq!(from_result(-4096), Err(Errno::IO));
        assert_eq!(from_result(i32::MIN), Err(Errno::IO));
    }

    #[test]
    fn an_error_without_an_errno_is_an_io_error() {
        assert_eq!(from_error(&Errno::PERM.into()), Errno::PERM);
        assert_eq!(from_error(&ErrorKind::NotFound.into()), Errno::IO);
    }
}
