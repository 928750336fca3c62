//! At how many of a version's sites a deletion must be known before it is
//! acknowledged, as somebody can tell who sees records and no catalogue.

use coffer_model::Geometry;

/// How many of the sites that a version's manifest was sent to, and that its
/// policy still admits, must have acknowledged the tombstone.
///
/// The promise is about the version's own sites, not about those that have its
/// manifest: m + 1 of a striped one's n, or all that are admitted where these
/// are fewer; each of a small one's. A manifest goes to no other sites, but not
/// always to all of them: one that missed a shard or was down is left out. Such
/// a site is not known here, and may be one of those that acknowledged.
pub(crate) fn holders_needed(geometry: Geometry, striped: bool, sent: usize, admitted: usize) -> usize {
    if !striped {
        return admitted;
    }
    let unknown = geometry.n().saturating_sub(sent);
    admitted.min((geometry.m() + 1).saturating_sub(unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(striped: bool, sent: usize, admitted: usize) -> usize {
        holders_needed(Geometry::new(2, 2).unwrap(), striped, sent, admitted)
    }

    #[test]
    fn more_sites_of_a_striped_version_than_may_be_lost_must_know_of_its_deletion() {
        assert_eq!(needed(true, 4, 4), 3);
        assert_eq!(needed(true, 4, 3), 3);
        assert_eq!(needed(true, 4, 2), 2, "all that the policy still admits");
    }

    #[test]
    fn a_site_that_the_manifest_was_never_sent_to_may_be_one_of_those_that_know() {
        assert_eq!(needed(true, 3, 3), 2);
        assert_eq!(needed(true, 3, 2), 2);
        assert_eq!(needed(true, 3, 1), 1);
    }

    #[test]
    fn every_site_that_may_have_a_small_version_must_know_of_its_deletion() {
        assert_eq!(needed(false, 3, 3), 3);
        assert_eq!(needed(false, 2, 2), 2);
        assert_eq!(needed(false, 3, 1), 1);
    }
}
