//! Where in an object a value is. A chain on the stack, written out only where
//! there is a fault to name: most objects have none.

use core::fmt;

/// A value's place.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The object itself.
    Root,
    /// A member of what is there.
    Member(&'a Place<'a>, &'a str),
    /// An element of what is there.
    Element(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    pub(super) fn member(&'a self, name: &'a str) -> Self {
        Self::Member(self, name)
    }

    pub(super) fn element(&'a self, at: usize) -> Self {
        Self::Element(self, at)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(Self::Root, name) => f.write_str(name),
            Self::Member(of, name) => write!(f, "{of}.{name}"),
            Self::Element(of, at) => write!(f, "{of}[{at}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_people_write_it() {
        let root = Place::Root;
        let (spec, first) = (root.member("spec"), root.element(0));
        let list = spec.member("containers");
        let element = list.element(2);
        assert_eq!(element.member("image").to_string(), "spec.containers[2].image");
        assert_eq!((root.to_string(), first.to_string()), (String::new(), "[0]".to_owned()));
    }
}
