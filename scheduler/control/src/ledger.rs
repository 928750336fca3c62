//! The placement ledger as it lies in the API: where it ends, and how much of it
//! is kept. It is replayed segment by segment; the oldest segments go, whole, when
//! there are too many records.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};

use crate::resources::PlacementRecord;

/// Records of segments that are over. Whoever wants older ones keeps them elsewhere in time
/// (`coffer fleet placements` prints them).
const KEPT: usize = 2000;

/// The digest of the last line that any scheduler wrote down.
pub(crate) async fn last_end(client: &Client, namespace: &str) -> Result<Option<String>, kube::Error> {
    let last = names(client, namespace).await?.into_iter().next_back();
    let Some(last) = last else { return Ok(None) };
    Ok(api(client, namespace).get_opt(&last).await?.map(|record| record.spec.end))
}

/// Removes the oldest segments, the oldest record first, as long as more than [`KEPT`] records are left without
/// them. The last one stays, however long it is: the next one names its end.
pub(crate) async fn prune(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    for name in surplus(&names(client, namespace).await?, KEPT) {
        match api(client, namespace).delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn api(client: &Client, namespace: &str) -> Api<PlacementRecord> {
    Api::namespaced(client.clone(), namespace)
}

/// The names of all records; by their order the order of the ledger. The lines of all together are the whole
/// ledger, and are not read.
async fn names(client: &Client, namespace: &str) -> Result<BTreeSet<String>, kube::Error> {
    let records = api(client, namespace).list_metadata(&ListParams::default()).await?;
    Ok(records.items.iter().map(|record| record.name_any()).collect())
}

/// Segments begin with a time of so many digits, so that their names have its order.
fn segment(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(segment, _)| segment)
}

/// What is removed so that the segments that stay have `kept` records, or one segment alone is left.
fn surplus(names: &BTreeSet<String>, kept: usize) -> Vec<&str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    names.iter().for_each(|name| *counts.entry(segment(name)).or_default() += 1);
    // From the newest: as many whole segments as fit, and one at least.
    let (mut left, mut oldest) = (0, None);
    for (one, count) in counts.into_iter().rev() {
        left += count;
        if left > kept && oldest.is_some() {
            break;
        }
        oldest = Some(one);
    }
    let goes = |name: &&String| oldest.is_some_and(|oldest| segment(name) < oldest);
    names.iter().filter(goes).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(segments: &[usize]) -> BTreeSet<String> {
        let names = segments.iter().enumerate();
        let names =
            names.flat_map(|(n, count)| (0..*count).map(move |first| format!("s{n:016x}-{first:010}")));
        names.collect()
    }

    #[test]
    fn the_oldest_segments_go_whole_and_the_last_one_never() {
        let gone = |segments: &[usize], kept| surplus(&ledger(segments), kept).len();
        assert_eq!(gone(&[], 10), 0);
        assert_eq!(gone(&[4, 4, 2], 10), 0);
        assert_eq!(gone(&[4, 4, 3], 10), 4);
        assert_eq!(gone(&[4, 4, 100], 10), 8);
        assert_eq!(gone(&[1, 9, 2, 3], 10), 10, "a gap would end the chain");
    }

    #[test]
    fn the_oldest_record_goes_first() {
        let all = ledger(&[3, 8]);
        let gone = surplus(&all, 8);
        assert_eq!(gone, all.iter().take(3).map(String::as_str).collect::<Vec<_>>());
    }
}
