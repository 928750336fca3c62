//! What whoever runs the sites' pods wishes of the sites: told again and again, done
//! once, and then with a leaf of its own in the log of the service.

use coffer_model::{Operation, Outcome};
use coffer_regions::Standing;

use super::SiteChangeError;
use crate::service::Service;
use crate::sites::ListedSite;

/// The words of a leaf about a change that overrides the policies of tenants.
pub(crate) fn anyway(must: bool) -> &'static str {
    if must { " although a policy may need it" } else { "" }
}

/// A wish for one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteWish<'a> {
    /// It is one of the sites; the site file that describes it.
    Join(&'a str),
    /// It takes no new data, and what it holds moves away.
    Empty {
        /// Although a policy needs it: no byte may go there any more.
        must: bool,
    },
    /// It takes data again.
    Keep,
    /// It goes for good, as soon as nothing has a place there.
    Leave,
}

impl Service {
    /// Does what is wished of the site of this name, unless it is so already.
    ///
    /// # Errors
    /// [`SiteChangeError`]; the wish is to be told again.
    pub async fn wish_of_site(&self, name: &str, wish: SiteWish<'_>) -> Result<(), SiteChangeError> {
        let listed = self.sites.listed().iter().find(|site| site.address.site.name == name);
        let word = match (wish, listed.map(|site| site.standing)) {
            (SiteWish::Join(_), None) => "add",
            (SiteWish::Join(_), Some(Standing::Retired)) => {
                return Err(SiteChangeError::NameTaken(name.to_owned()));
            }
            (SiteWish::Empty { .. } | SiteWish::Leave, Some(Standing::Active)) => "drain",
            (SiteWish::Leave, Some(Standing::Draining)) => "retire",
            (SiteWish::Keep, Some(Standing::Draining)) => "undrain",
            // Whose disk that is nobody here can tell, nor what lies there.
            (SiteWish::Leave, None) => return Err(SiteChangeError::NoSite(name.to_owned())),
            // It is so, or there is nothing of that name that it could be asked of.
            _ => return Ok(()),
        };
        // Told with every look: only what is not refused enters the log.
        let must = wish == SiteWish::Empty { must: true };
        let said = format!("{word} {name}{}, as the fleet asks", anyway(must));
        match wish {
            SiteWish::Join(file) => {
                self.note_wish(&said, Outcome::Intent).await?;
                let added = self.add_site(file, Some(name)).await.map(drop);
                self.note_outcome(&said, added).await?;
            }
            SiteWish::Keep => drop(self.drain(name, true, false, Some(&said)).await?),
            SiteWish::Leave if word == "retire" => drop(self.retire(name, Some(&said)).await?),
            SiteWish::Empty { .. } | SiteWish::Leave => {
                self.drain(name, false, must, Some(&said)).await?;
            }
        }
        // Nothing new comes now; so it may go, if nothing is there.
        match wish {
            SiteWish::Leave if word == "drain" => Box::pin(self.wish_of_site(name, wish)).await,
            _ => Ok(()),
        }
    }

    /// Writes another list, with leaves of the wish that it follows, if it follows one.
    pub(super) async fn write_as_wished(
        &self,
        list: Vec<ListedSite>,
        wish: Option<&str>,
    ) -> Result<(), SiteChangeError> {
        let Some(said) = wish else { return self.write_sites(list, None).await };
        self.note_wish(said, Outcome::Intent).await?;
        let written = self.write_sites(list, None).await;
        self.note_outcome(said, written).await
    }

    async fn note_outcome(
        &self,
        said: &str,
        done: Result<(), SiteChangeError>,
    ) -> Result<(), SiteChangeError> {
        let outcome = if done.is_ok() { Outcome::Done } else { Outcome::Failed };
        self.note_wish(said, outcome).await?;
        done
    }

    async fn note_wish(&self, said: &str, outcome: Outcome) -> Result<(), SiteChangeError> {
        let Some(realm) = self.service_realm() else { return Ok(()) };
        let event = self.own_event(Some(realm.id), Operation::Sites, said.to_owned(), outcome);
        realm.note(&event).await?;
        Ok(())
    }
}
