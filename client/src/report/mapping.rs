//! Which standards ask for what a check looks at. A mapping says where an
//! auditor may use the evidence; it is no certification, and it covers the
//! part of a control that software can show.

/// A standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standard {
    /// NIST SP 800-53 revision 5.
    Nist,
    /// ISO/IEC 27001:2022, Annex A.
    Iso,
    /// Regulation (EU) 2016/679.
    Gdpr,
    /// Regulation (EU) 2022/2554 and its technical standards.
    Dora,
    /// Directive (EU) 2022/2555 and Implementing Regulation (EU) 2024/2690.
    Nis2,
    /// PCI DSS 4.0.1.
    Pci,
    /// SOC 2, trust services criteria.
    Soc2,
}

impl Standard {
    /// Every standard, in the order of the report.
    pub const ALL: [Self; 7] =
        [Self::Nist, Self::Iso, Self::Gdpr, Self::Dora, Self::Nis2, Self::Pci, Self::Soc2];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nist => "NIST SP 800-53 r5",
            Self::Iso => "ISO/IEC 27001:2022 Annex A",
            Self::Gdpr => "GDPR",
            Self::Dora => "DORA",
            Self::Nis2 => "NIS2",
            Self::Pci => "PCI DSS 4.0.1",
            Self::Soc2 => "SOC 2",
        }
    }

    /// A short word for columns and properties.
    pub fn short(self) -> &'static str {
        match self {
            Self::Nist => "nist-800-53",
            Self::Iso => "iso-27001",
            Self::Gdpr => "gdpr",
            Self::Dora => "dora",
            Self::Nis2 => "nis2",
            Self::Pci => "pci-dss",
            Self::Soc2 => "soc-2",
        }
    }
}

/// One place in one standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The standard.
    pub standard: Standard,
    /// The place: a control, an article, a requirement.
    pub text: &'static str,
}

/// The caution that every report carries.
pub const CAUTION: &str = "A mapping is not a certification. Each line says whether one objective is satisfied on \
    the evidence that is named, in the period that is named; it never says that an organisation complies with a \
    standard. The standards ask for people, contracts and buildings too, which no software can show.";

pub(super) const fn nist(text: &'static str) -> Reference {
    Reference { standard: Standard::Nist, text }
}
pub(super) const fn iso(text: &'static str) -> Reference {
    Reference { standard: Standard::Iso, text }
}
pub(super) const fn gdpr(text: &'static str) -> Reference {
    Reference { standard: Standard::Gdpr, text }
}
pub(super) const fn dora(text: &'static str) -> Reference {
    Reference { standard: Standard::Dora, text }
}
pub(super) const fn nis2(text: &'static str) -> Reference {
    Reference { standard: Standard::Nis2, text }
}
pub(super) const fn pci(text: &'static str) -> Reference {
    Reference { standard: Standard::Pci, text }
}
pub(super) const fn soc2(text: &'static str) -> Reference {
    Reference { standard: Standard::Soc2, text }
}
