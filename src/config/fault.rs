//! What is wrong with a configuration, in the form a person can act on.
//!
//! A message never repeats text that came from the environment: a token that was put into the wrong
//! key must not end up in a log.

use std::error::Error;
use std::fmt;

/// One thing that is wrong with a configuration, or that will not do what it seems to promise.
///
/// Displayed as `line 12: server.api.proxy_url: ...; try ...`. The name of the file is the caller's
/// to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path of the key, `server.api.proxy_url`; empty when no key is to blame.
    pub key: String,
    /// The line in the file, counted from 1; `None` when the fault is about something absent.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it, as a clause of its own.
    pub remedy: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// Every fault of a configuration that cannot be used, in the order of the file.
///
/// Never empty. Displayed one fault a line, without a newline at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl Error for Faults {}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// What is wrong with one value; who reads the value knows its key and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) remedy: Option<String>,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: None }
    }

    pub(super) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(super) fn at(self, key: impl Into<String>, line: Option<usize>) -> Fault {
        Fault { key: key.into(), line, message: self.message, remedy: self.remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_line_key_message_remedy() {
        let fault = Complaint::new("not a URL")
            .with_remedy("try `http://localhost:8080`")
            .at("server.api.proxy_url", Some(12));
        assert_eq!(
            fault.to_string(),
            "line 12: server.api.proxy_url: not a URL; try `http://localhost:8080`"
        );
        let bare = Complaint::new("cannot be read").at("", None);
        assert_eq!(bare.to_string(), "cannot be read");
        assert_eq!(
            Faults(vec![fault, bare]).to_string(),
            "line 12: server.api.proxy_url: not a URL; try \
                `http://localhost:8080`\ncannot be read"
        );
    }
}
