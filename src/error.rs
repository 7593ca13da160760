//! The one error type: what happened, where, and what to do next.

use std::fmt;
use std::path::Path;

use crate::secret::without_password;

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wrong arguments or a wrong recipe (exit code 2).
    Usage,
    /// A file, model or value that cannot be used (exit code 2).
    Input,
    /// Everything else that went wrong (exit code 1).
    Failed,
    /// The user asked to stop; work up to here is kept (exit code 130).
    Stopped,
}

/// An error a user can act on. Displayed as `place: what` with `next` on a line of its own.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Error {
    kind: Kind,
    place: String,
    what: String,
    next: String,
}

/// A text without the passwords of addresses in it.
fn masked(text: impl fmt::Display) -> String {
    without_password(&text.to_string())
}

impl Error {
    fn new(kind: Kind, place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { kind, place: masked(place), what: masked(what), next: String::new() }
    }

    /// Wrong arguments or settings. `place` names the flag or key.
    pub fn usage(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, place, what)
    }

    /// Unusable input. `place` names the file with its line, tensor or field.
    pub fn input(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::new(Kind::Input, place, what)
    }

    /// A failure that is not the input's fault.
    pub fn failed(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, place, what)
    }

    /// A stop that was asked for.
    pub fn stopped(place: impl fmt::Display) -> Self {
        Self::new(Kind::Stopped, place, "stopped as asked")
    }

    /// An operating system error on a file; says the likely remedy for the common ones.
    pub fn io(path: impl AsRef<Path>, doing: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let (kind, next) = match error.kind() {
            K::NotFound => (Kind::Input, "check the path"),
            K::PermissionDenied => (Kind::Input, "check the permissions, or choose another folder"),
            K::StorageFull => {
                (Kind::Failed, "free some disk space and run the same command again: finished work is kept")
            }
            K::ReadOnlyFilesystem => (Kind::Input, "choose a folder that can be written"),
            K::InvalidData => (Kind::Input, "convert the file to UTF-8, or give another one"),
            K::NotADirectory | K::IsADirectory | K::AlreadyExists => {
                (Kind::Input, "check whether a file or a folder is meant")
            }
            _ => (Kind::Failed, ""),
        };
        // `tempfile` adds the temporary name, which says nothing to anybody.
        let said = error.to_string();
        let said = said.split(" at path \"").next().unwrap_or_default();
        Self::new(kind, path.as_ref().display(), format!("cannot {doing}: {said}")).next(next)
    }

    /// Adds what the user should do next.
    #[must_use]
    pub fn next(mut self, next: impl fmt::Display) -> Self {
        self.next = masked(next);
        self
    }

    /// Puts an outer place in front, e.g. the file around a line.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.place = if self.place.is_empty() { masked(place) } else { masked(format!("{place}: {}", self.place)) };
        self
    }

    /// The sort of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it happened.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What happened, without place and remedy.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do next; may be empty.
    pub fn next_step(&self) -> &str {
        &self.next
    }

    /// The process exit code: 1 failed, 2 bad usage or input, 130 stopped.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage | Kind::Input => 2,
            Kind::Failed => 1,
            Kind::Stopped => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.what)?;
        if !self.next.is_empty() {
            write!(f, "\n  next: {}", self.next)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_names_a_temporary_file_or_a_password() {
        let folder = Path::new("/nonexistent/folder");
        let error = tempfile::Builder::new().tempfile_in(folder).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/folder/"), "the library names it: {error}");
        let said = Error::io(folder, "write in the folder", &error).to_string();
        assert!(said.contains("No such file") && !said.contains(".tmp"), "{said}");
        let said =
            Error::usage("postgres://a:secret@b", "x://a:secret@b").within("y://a:secret@b").next("z://a:secret@b");
        assert!(!said.to_string().contains("secret") && said.place().starts_with("y://a:***@b: postgres"), "{said}");
    }
}
