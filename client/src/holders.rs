//! From which sites everything can be read, for whoever takes sites down: an
//! operator's calls.

use std::collections::BTreeSet;
use std::time::Duration;

use coffer_proto::v1;

use crate::call::{CallError, bad_answer, repeat};
use crate::connect::Client;
use crate::sites::SiteInfo;

/// Versions that can be read from the same sites now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderGroup {
    /// How many of the sites it takes to read one.
    pub needed: u32,
    /// The sites by their names: those that answer and hold what they should.
    pub sites: BTreeSet<String>,
    /// How many versions.
    pub versions: u64,
}

/// A site, as far as taking it down is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderSite {
    /// Its name.
    pub name: String,
    /// Whether it takes no new data, and what it holds moves away.
    pub draining: bool,
    /// Whether it is gone for good.
    pub retired: bool,
    /// Whether it answers and is believed.
    pub answers: bool,
    /// Versions that have a place there, or something that can be read there.
    pub held: u64,
}

/// From which sites the versions can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// How long ago the count began.
    pub age: Duration,
    /// Versions by where they can be read.
    pub groups: Vec<HolderGroup>,
    /// Every site, those that are retired too: one that is not listed is not known there at all.
    pub sites: Vec<HolderSite>,
}

impl Client {
    /// From which sites all versions can be read; counted anew if it was last counted longer ago.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn count_holders(&self, max_age: Duration) -> Result<Holders, CallError> {
        let max_age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        // It looks at everything that the sites list.
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let answer = self.repair_calls().count_holders(v1::CountHoldersRequest { max_age_ms }).await;
            answer.map_err(|status| CallError::from_status(&status))
        });
        let answer = answer.await?.into_inner();
        let names: Vec<String> = answer.sites.iter().map(|site| site.name.clone()).collect();
        let name = |place: &u32| {
            let name = usize::try_from(*place).ok().and_then(|place| names.get(place));
            name.cloned().ok_or_else(|| bad_answer("a site that is not listed"))
        };
        let group = |group: v1::HolderGroup| {
            let sites = group.sites.iter().map(name).collect::<Result<_, CallError>>()?;
            Ok(HolderGroup { needed: group.needed, sites, versions: group.versions })
        };
        let groups = answer.groups.into_iter().map(group).collect::<Result<_, CallError>>()?;
        let site = |site: v1::HolderSite| HolderSite {
            name: site.name,
            draining: site.standing == "draining",
            retired: site.standing == "retired",
            answers: site.answers,
            held: site.held,
        };
        Ok(Holders {
            age: Duration::from_millis(answer.age_ms),
            groups,
            sites: answer.sites.into_iter().map(site).collect(),
        })
    }

    /// Takes a site out of use although a policy needs it: no byte goes there any more, and what that policy
    /// asks for is refused until another site is there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn drain_site_anyway(&self, name: &str) -> Result<SiteInfo, CallError> {
        let (name, change) = (name.to_owned(), v1::SiteChange::Drain.into());
        self.send_change(v1::ChangeSiteRequest { name, change, certificate: None, must: true }).await
    }
}
