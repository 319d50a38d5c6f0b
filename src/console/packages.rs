//! `ota`: what people ask of the keeper of packages, as the console's lines say it.

use std::path::PathBuf;

use crate::ota::desk::{Desk, DeskError, Order, Report};
use crate::ota::store::PackageId;

/// Every action.
pub(super) const ACTIONS: [&str; 3] = ["status", "check", "cancel"];

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// How it is.
    Status,
    /// Look now.
    Check(Order),
    /// End the look that is under way.
    Cancel,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Action,
    From,
    Package,
}

impl Asked {
    /// Reads an action with what may stand beside it; without one, how it is.
    pub(super) fn read(
        action: Option<&str>,
        from: Option<PathBuf>,
        package: Option<&str>,
    ) -> Result<Self, Wrong> {
        match action.unwrap_or("status") {
            "status" => Ok(Self::Status),
            "cancel" => Ok(Self::Cancel),
            "check" => {
                // The service's own folder is nobody's business.
                if from.as_ref().is_some_and(|from| !from.is_absolute()) {
                    return Err(Wrong::From);
                }
                let package = package.map(|text| PackageId::parse(text).ok_or(Wrong::Package));
                let package = package.transpose()?;
                Ok(Self::Check(Order { from, package }))
            }
            _ => Err(Wrong::Action),
        }
    }

    /// Does it.
    pub(super) fn put(self, desk: &Desk) -> Result<Report, DeskError> {
        match self {
            Self::Status => desk.report(),
            Self::Check(order) => desk.order(order),
            Self::Cancel => desk.cancel(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_what_is_wrong_is_named() {
        let read = |action: &str, from: Option<&str>, package: Option<&str>| {
            Asked::read(Some(action), from.map(PathBuf::from), package)
        };
        for action in ACTIONS {
            assert!(read(action, None, None).is_ok(), "{action}");
        }
        assert_eq!(Asked::read(None, None, None), Ok(Asked::Status));
        let order = Order {
            from: Some("/media/usb".into()),
            package: PackageId::parse("factory-triage-3"),
        };
        assert_eq!(
            read("check", Some("/media/usb"), Some("factory-triage-3")),
            Ok(Asked::Check(order))
        );
        assert_eq!(read("stop", None, None), Err(Wrong::Action));
        assert_eq!(read("check", Some("usb"), None), Err(Wrong::From));
        for wrong in ["triage", "triage-", "triage-x", "triage-03", "Tri-3", "-3"] {
            assert_eq!(
                read("check", None, Some(wrong)),
                Err(Wrong::Package),
                "{wrong}"
            );
        }
    }
}
