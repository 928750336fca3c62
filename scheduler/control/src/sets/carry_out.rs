//! The steps of a plan, carried out.

use std::collections::BTreeSet;

use coffer_scheduler::{BudgetError, Fleet, PodId, SetName, ShardGroup, Step, Why, plan};
use kube::runtime::events::EventType;

use super::taken::Serving;
use super::{Look, Part, SetError, Sets, SiteIdentity, TakenDown};
use crate::resources::Member;
use crate::shards::{ShardLedgerError, Shards};

/// More shards than there ever are: nothing is spared of what is not known.
const UNKNOWN: u32 = u32::MAX - 1;

/// What became of the wishes of one look.
#[derive(Default)]
struct Moving {
    /// What lies on pods that go, and moves.
    moves: Vec<String>,
    /// What is not done, and why.
    refused: Vec<String>,
    /// Pods that were not told to be emptied: they may take new shards still.
    stuck: BTreeSet<PodId>,
    /// Pods on silent nodes, which may come back with what they hold.
    awaited: Vec<PodId>,
}

impl Moving {
    /// Whether it was done; if not, why not is kept.
    fn tried(&mut self, wish: Result<(), ShardLedgerError>) -> bool {
        if let Err(error) = &wish {
            self.refused.push(error.to_string());
        }
        wish.is_ok()
    }
}

/// The pod that goes by this step.
fn leaver(step: &Step) -> Option<&PodId> {
    match step {
        Step::Evacuate(id, _) | Step::Queue(id, _) | Step::Leave(id, _) => Some(id),
        _ => None,
    }
}

/// The same with pods of which nothing is known: each holds what nothing else does.
fn with_unknown(mut shards: Shards, unknown: BTreeSet<PodId>) -> Shards {
    if !unknown.is_empty() {
        shards.held.extend(unknown.iter().map(|id| (id.clone(), 1)));
        shards.groups.push(ShardGroup { needed: UNKNOWN, readable: unknown, objects: 1 });
    }
    shards
}

/// What is the matter with members that the ledger does not list, for people.
fn not_listed(unlisted: &BTreeSet<PodId>) -> String {
    let names: Vec<String> = unlisted.iter().map(ToString::to_string).collect();
    format!(
        "the ledger of shards lists no site {}: whether it is asked of the service whose sites these are, and under their names, has to be seen to; they are not taken down meanwhile",
        names.join(", ")
    )
}

/// What a pod waits for that is to go down, for people.
fn waits_for(why: &BudgetError) -> String {
    let BudgetError::TooFew { wanted, .. } = why;
    if *wanted > UNKNOWN { "nothing is known of what it holds".to_owned() } else { why.to_string() }
}

/// Whether a pod goes down by this step.
fn goes_down(step: &Step) -> bool {
    matches!(step, Step::Leave(..) | Step::Restart(..))
}

/// Whether it is about a pod that stands where it may not.
fn is_forced(step: &Step) -> bool {
    matches!(step, Step::Evacuate(_, Why::OutOfPlace) | Step::Leave(_, Why::OutOfPlace))
}

/// What would be lost if a pod went now, for people.
fn at_stake(id: &PodId, shards: &Shards) -> String {
    let hit = || shards.groups.iter().filter(|group| group.readable.contains(id));
    let objects: u64 = hit().map(|group| group.objects).sum();
    let held = shards.held.get(id).copied().unwrap_or(0);
    let spare = |group: &&ShardGroup| {
        u32::try_from(group.readable.len()).unwrap_or(u32::MAX).saturating_sub(group.needed.saturating_add(1))
    };
    match hit().min_by_key(spare) {
        Some(unknown) if unknown.needed == UNKNOWN => format!("nothing is known of what {id} holds"),
        None => format!("{id} should hold shards of {held} objects, and none can be read there"),
        Some(worst) => format!(
            "{id} holds shards of {objects} objects; without it one would be left with {} readable shards, and {} must be left",
            worst.readable.len().saturating_sub(1),
            worst.needed.saturating_add(1),
        ),
    }
}

impl Sets {
    fn serving(&self, taken: &mut TakenDown, set: &SetName) -> Serving {
        self.locked(|book| taken.serving(book, set))
    }
}

impl Look<'_> {
    /// Makes a plan and does what it says.
    pub(super) async fn carry_out(&mut self, part: Part) -> Result<(), SetError> {
        let sets = self.sets;
        let mut moving = Moving::default();
        // What takes its time comes first, under a plan of its own: the one that takes pods down is not to be old.
        let serving = sets.serving(&mut *sets.turn.lock().await, &self.name);
        let shards = self.shards(&serving).await;
        let Some(steps) = self.planned(&shards) else { return Ok(()) };
        self.sites_join(&steps, &mut moving).await;
        self.some_stay(&steps, &mut moving).await;
        let mut taken = sets.turn.lock().await;
        if part == Part::Whole {
            self.make_room().await;
        }
        self.take_down(&mut taken, moving, part).await
    }

    /// The plan, `None` without a book: then nothing is known of the set, and nothing is wished.
    fn planned(&self, shards: &Shards) -> Option<Vec<Step>> {
        self.sets.locked(|book| {
            let mut managed = book.managed(&self.name)?;
            // One that began with an older certificate runs something else than is wanted, and is restarted like it.
            let other = !managed.version;
            managed.running.extend(self.with_old_certificates().map(|ordinal| (ordinal, other)));
            let standing = book.standing(&self.name);
            let sets = [managed];
            Some(plan(&Fleet {
                cluster: book.ledger().cluster(),
                sets: &sets,
                drained: &standing.drained,
                lost: &standing.lost,
                given_up: &standing.given_up,
                abroad: &standing.abroad,
                preempted: &standing.preempted,
                groups: &shards.groups,
                held: &shards.held,
                restarting: &standing.restarting,
                costs: book.costs(),
            }))
        })
    }

    /// Looks again, and does what has to be done; nobody else takes pods down meanwhile. All that a plan takes down
    /// was weighed together, so that it goes in one look, as long as nothing else changes.
    async fn take_down(
        &mut self,
        taken: &mut TakenDown,
        mut moving: Moving,
        part: Part,
    ) -> Result<(), SetError> {
        let sets = self.sets;
        let mut serving = sets.serving(taken, &self.name);
        let shards = self.shards(&serving).await;
        let Some(mut steps) = self.planned(&shards) else { return Ok(()) };
        if part == Part::Forced {
            steps.retain(is_forced);
        }
        let missed = |id: &PodId| shards.held.get(id).is_some_and(|held| *held > 0);
        let one_has_to_go = steps.iter().any(|step| matches!(step, Step::Leave(id, _) if missed(id)));
        self.allow(&shards, one_has_to_go);
        self.keep_budget().await?;
        let mut waits = Vec::new();
        for step in steps {
            self.busy |=
                !matches!(step, Step::Wait(..) | Step::Await(_) | Step::Queue(..) | Step::Unplaceable(..));
            // What was planned for other pods than those that serve by now is planned anew with the next look.
            if goes_down(&step) && (!self.agrees() || sets.serving(taken, &self.name) != serving) {
                continue;
            }
            match step {
                // The scheduler's part.
                Step::Bind(_) | Step::Unplaceable(..) => {}
                Step::Join(..) => self.join(),
                Step::Await(id) => moving.awaited.push(id),
                Step::Evacuate(id, why) => self.evacuate(&id, why, &shards, &mut moving).await,
                Step::Queue(id, why) => self.close(&id, why, &mut moving).await,
                Step::Leave(id, why) => {
                    if self.leave(&id, why, &shards, &mut moving).await? {
                        self.note_taken(taken, &mut serving, id);
                    }
                }
                Step::Restart(id, version) => {
                    if self.restart(&id, version).await? {
                        self.note_taken(taken, &mut serving, id);
                    } else {
                        waits.push(format!("{id} waits: the disruption budget of the set is given to another pod, or is being counted"));
                    }
                }
                Step::Wait(id, why) => waits.push(format!("{id} waits: {}", waits_for(&why))),
            }
        }
        self.retire(&shards).await;
        if part == Part::Whole {
            self.rollout_waits(&waits);
            self.data_moves(&moving.refused, &moving.moves, &moving.awaited);
        }
        Ok(())
    }

    /// What the ledger of shards says. Where it is silent, every pod is taken to hold what nothing else does.
    async fn shards(&mut self, serving: &Serving) -> Shards {
        let members: BTreeSet<PodId> =
            self.status.members.iter().map(|member| self.id(member.ordinal)).collect();
        let looked = self.sets.control.shards.look(&self.name, &members, &serving.own, &serving.away).await;
        let shards = match looked {
            Ok(shards) => {
                let unlisted = self.unlisted(&shards);
                self.shards_known((!unlisted.is_empty()).then(|| not_listed(&unlisted)).as_deref());
                with_unknown(shards, unlisted)
            }
            Err(why) => {
                self.shards_known(Some(&why.to_string()));
                with_unknown(Shards::default(), members.clone())
            }
        };
        if self.sets.control.shards.moves_data() {
            self.sets.changed(|book| book.see_shards(&self.name, &members, &shards));
        }
        shards
    }

    /// Members of which the ledger says nothing although they may hold something: under another name, or in
    /// another service.
    fn unlisted(&self, shards: &Shards) -> BTreeSet<PodId> {
        let may_hold = self.status.members.iter().filter(|member| member.is_site != Some(false));
        may_hold.map(|member| self.id(member.ordinal)).filter(|id| !shards.held.contains_key(id)).collect()
    }

    /// Another site; its pod is made with the next look.
    fn join(&mut self) {
        let next = self.status.members.iter().map(|member| member.ordinal.saturating_add(1)).max();
        let used = self.pods.keys().map(|ordinal| ordinal.saturating_add(1)).max();
        let ordinal = self.status.next_ordinal.max(next.unwrap_or(0)).max(used.unwrap_or(0));
        self.status.next_ordinal = ordinal.saturating_add(1);
        self.status.members.push(Member {
            ordinal,
            node: None,
            country: None,
            leaves: None,
            is_site: Some(false),
            epoch: 0,
            certificate: 0,
        });
    }

    /// Pods that serve are sites, but for those that go.
    async fn sites_join(&mut self, steps: &[Step], moving: &mut Moving) {
        let goes = |id: &PodId| steps.iter().any(|step| leaver(step) == Some(id));
        let serving = self.sets.locked(|book| {
            let stands = |id: PodId| {
                let node = book.ledger().cluster().node_of(&id)?;
                Some(SiteIdentity { pod: id, stands: node.attested.clone()? })
            };
            book.serving(&self.name).into_iter().filter_map(stands).collect::<Vec<_>>()
        });
        for site in serving.into_iter().filter(|site| !goes(&site.pod)) {
            let Some(endpoint) = self.endpoint(site.pod.ordinal) else { continue };
            let joined = moving.tried(self.sets.control.shards.join(&site, &endpoint).await);
            let mut members = self.status.members.iter_mut();
            if let Some(member) = members.find(|one| joined && one.ordinal == site.pod.ordinal) {
                member.is_site = Some(true);
            }
        }
    }

    /// Those that were to go, and are not any more, take data again.
    async fn some_stay(&mut self, steps: &[Step], moving: &mut Moving) {
        for index in 0..self.status.members.len() {
            let Some(member) = self.status.members.get(index) else { continue };
            let id = self.id(member.ordinal);
            if member.leaves.is_none() || steps.iter().any(|step| leaver(step) == Some(&id)) {
                continue;
            }
            let kept = moving.tried(self.sets.control.shards.keep(&id).await);
            if let Some(member) = self.status.members.get_mut(index).filter(|_| kept) {
                member.leaves = None;
            }
        }
    }

    async fn evacuate(&mut self, id: &PodId, why: Why, shards: &Shards, moving: &mut Moving) {
        let news = format!("{why:?}");
        let member = self.status.members.iter_mut().find(|member| member.ordinal == id.ordinal);
        let told = member.is_some_and(|member| member.leaves.replace(news.clone()).as_ref() == Some(&news));
        if !told {
            let note = format!("{why:?}: its shards move to others");
            self.tell_of_pod(id, ("Evacuate", "DataMoves"), &note).await;
        }
        let at_stake = at_stake(id, shards);
        match self.sets.control.shards.evacuate(id, why == Why::OutOfPlace).await {
            Ok(()) => moving.moves.push(at_stake),
            Err(error) => {
                moving.stuck.insert(id.clone());
                moving.refused.push(format!("{at_stake}; they cannot move: {error}"));
            }
        }
    }

    /// Nothing is to come to one that holds nothing and goes after another. Told once: there is nothing to move.
    async fn close(&mut self, id: &PodId, why: Why, moving: &mut Moving) {
        let mut members = self.status.members.iter_mut();
        // Who never was a site becomes none.
        let is_open = |one: &&mut Member| one.leaves.is_none() && one.is_site != Some(false);
        let Some(member) = members.find(|one| one.ordinal == id.ordinal).filter(is_open) else { return };
        if moving.tried(self.sets.control.shards.evacuate(id, why == Why::OutOfPlace).await) {
            member.leaves = Some(format!("{why:?}"));
        }
    }

    async fn leave(
        &mut self,
        id: &PodId,
        why: Why,
        shards: &Shards,
        moving: &mut Moving,
    ) -> Result<bool, SetError> {
        // Of one that holds shards it is known that it may not take any more, and that they can be read without it.
        let holds = shards.held.get(id).is_some_and(|held| *held > 0);
        if holds && moving.stuck.contains(id) {
            return Ok(false);
        }
        let member = self.status.members.iter().find(|member| member.ordinal == id.ordinal);
        // Who never was a site is not asked for.
        let never =
            member.is_some_and(|member| member.is_site == Some(false)) && !shards.held.contains_key(id);
        if !holds && !never && !moving.tried(self.sets.control.shards.leave(id).await) {
            return Ok(false);
        }
        let goes = if holds { self.take_one(id).await? } else { self.delete(id).await? };
        if !goes {
            return Ok(false);
        }
        self.tell_of_pod(id, ("Leave", "Leaves"), &format!("{why:?}: nothing is lost without it")).await;
        self.unpublish(id).await?;
        self.depart(id.ordinal, !holds);
        Ok(true)
    }

    /// Whether it goes now.
    async fn restart(&mut self, id: &PodId, version: u64) -> Result<bool, SetError> {
        let goes = self.take_one(id).await?;
        if goes {
            let text = format!("restarts with the template {version:016x}, on its node");
            self.tell_of_pod(id, ("Restart", "RollsOut"), &text).await;
        }
        Ok(goes)
    }

    /// It does not serve from now on; the rest of the plan has reckoned with that.
    fn note_taken(&mut self, taken: &mut TakenDown, serving: &mut Serving, id: PodId) {
        serving.own.remove(&id);
        self.touched.insert(id.ordinal);
        let uid = self.pods.get(&id.ordinal).and_then(|pod| pod.metadata.uid.clone());
        if let Some(uid) = uid {
            taken.note(id, uid);
        }
    }

    async fn tell_of_pod(&self, id: &PodId, what: (&str, &str), note: &str) {
        if let Some(pod) = self.pods.get(&id.ordinal) {
            self.sets.teller.tell(pod, EventType::Normal, what, note).await;
        } else {
            let note = format!("{id}: {note}");
            self.sets.teller.tell(self.object.as_ref(), EventType::Normal, what, &note).await;
        }
    }

    /// Where each member has its disk, and in which country it came there.
    pub(super) fn note_homes(&mut self) {
        for index in 0..self.status.members.len() {
            let Some(ordinal) = self.status.members.get(index).map(|member| member.ordinal) else { continue };
            let id = self.id(ordinal);
            let known = self.sets.locked(|book| {
                let node = book.pod(&id)?.node.clone()?;
                let stands = book.ledger().cluster().node(&node).and_then(|node| node.attested.clone());
                Some((node.to_string(), stands.map(|stands| stands.country.to_string())))
            });
            if let (Some(member), Some((node, country))) = (self.status.members.get_mut(index), known) {
                member.node = Some(node);
                member.country = member.country.take().or(country);
            }
        }
    }
}
