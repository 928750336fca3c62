//! Drills that come due: files on the shelf, of which each says what is
//! drilled, how often, and when next.

use coffer_model::{BucketName, Timestamp};
use serde::{Deserialize, Serialize};

use super::moment::Moment;
use super::plan::{Person, Promise, ScenarioKind, Trigger};
use super::planning::Wish;
use super::shelf::{Shelf, ShelfError};
use crate::call::CallError;

/// The format of schedules that this program writes and reads.
const SCHEDULE_FORMAT: u64 = 1;

/// A drill that comes due again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    format: u64,
    /// Its name.
    pub name: String,
    /// The bucket.
    pub bucket: String,
    /// Which kind of loss.
    pub kind: ScenarioKind,
    /// Names of lost sites.
    pub sites: Vec<String>,
    /// Country codes of lost places.
    pub places: Vec<String>,
    /// How many objects are drawn; none: all of them.
    pub sample: Option<u64>,
    /// Objects, even where the bucket holds a repository.
    pub objects: bool,
    /// What was promised.
    pub promise: Promise,
    /// Who takes part.
    pub people: Vec<Person>,
    /// From one to the next.
    pub every_seconds: u64,
    /// When the next one is due.
    pub next_due: Moment,
}

/// Why there is no schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The shelf.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// A name that is no file's.
    #[error("\"{0}\" is no name for a schedule: letters, digits, - and _ are")]
    Name(String),
    /// There is none of that name.
    #[error("there is no schedule {0}; `coffer drill schedule ls` lists them")]
    None(String),
    /// A file that is no schedule of this format.
    #[error("the schedule {0} cannot be read; remove it and enter it again")]
    Damaged(String),
    /// A moment has no place in what is repeated.
    #[error("a schedule restores what is there, and not a moment that is past")]
    Past,
}

fn file(name: &str) -> Result<String, ScheduleError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        return Err(ScheduleError::Name(name.to_owned()));
    }
    Ok(format!("schedules/{name}.json"))
}

impl Schedule {
    /// A schedule whose first drill is due at once.
    ///
    /// # Errors
    /// [`ScheduleError::Name`], [`ScheduleError::Past`].
    pub fn new(
        name: &str,
        wish: &Wish,
        objects: bool,
        every_seconds: u64,
        now: Timestamp,
    ) -> Result<Self, ScheduleError> {
        file(name)?;
        if wish.as_of.is_some() {
            return Err(ScheduleError::Past);
        }
        Ok(Self {
            format: SCHEDULE_FORMAT,
            name: name.to_owned(),
            bucket: wish.bucket.to_string(),
            kind: wish.kind,
            sites: wish.sites.clone(),
            places: wish.places.clone(),
            sample: wish.sample,
            objects,
            promise: wish.promise.clone(),
            people: wish.people.clone(),
            every_seconds,
            next_due: now.into(),
        })
    }

    /// What it wants drilled; the one after it is due at `next`.
    ///
    /// # Errors
    /// [`ScheduleError::Damaged`].
    pub fn wish(&self, next: Timestamp) -> Result<Wish, ScheduleError> {
        let damaged = |_| ScheduleError::Damaged(self.name.clone());
        Ok(Wish {
            bucket: BucketName::new(&self.bucket).map_err(damaged)?,
            kind: self.kind,
            sites: self.sites.clone(),
            places: self.places.clone(),
            as_of: None,
            sample: self.sample,
            promise: self.promise.clone(),
            trigger: Trigger::Scheduled,
            people: self.people.clone(),
            next_due: Some(next),
            calibrate: true,
        })
    }

    /// Whether its drill is due.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_due.timestamp().is_none_or(|due| due <= now)
    }

    /// Keeps it, in the place of an older one of its name.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub async fn keep(&self, shelf: &Shelf<'_>) -> Result<(), ScheduleError> {
        let text = serde_json::to_vec(self).map_err(|_| ScheduleError::Damaged(self.name.clone()))?;
        Ok(shelf.put(&file(&self.name)?, text).await?)
    }

    /// Takes one away.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub async fn remove(shelf: &Shelf<'_>, name: &str) -> Result<(), ScheduleError> {
        shelf.remove(&file(name)?).await.map_err(|error| match error {
            ShelfError::Call(CallError::NotFound(_)) => ScheduleError::None(name.to_owned()),
            error => error.into(),
        })
    }

    /// All of them, in order of their names.
    ///
    /// # Errors
    /// [`ScheduleError`]; one that cannot be read is told, not passed over.
    pub async fn all(shelf: &Shelf<'_>) -> Result<Vec<Self>, ScheduleError> {
        let mut all = Vec::new();
        for name in shelf.names("schedules/").await? {
            let bytes = shelf.get(&name).await?.unwrap_or_default();
            let damaged = || ScheduleError::Damaged(name.clone());
            let schedule: Self = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
            let same = file(&schedule.name).is_ok_and(|file| file == name);
            if schedule.format != SCHEDULE_FORMAT || !same || schedule.every_seconds == 0 {
                return Err(damaged());
            }
            all.push(schedule);
        }
        Ok(all)
    }
}
