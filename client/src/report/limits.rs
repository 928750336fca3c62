//! What cryptography cannot prove, said in every report.

/// One limit: what is not shown, and what an auditor can do about it.
pub struct Limit {
    /// What is not shown.
    pub what: &'static str,
    /// What remains to be done by people.
    pub instead: &'static str,
}

/// The limits of this version of the report.
pub const LIMITS: [Limit; 9] = [
    Limit {
        what: "Where a disk stands. A site's country is what its operator wrote into the topology; a right answer to a \
            challenge shows who holds the bytes, not on which soil.",
        instead: "Visit the site, or rely on somebody who did; compare the addresses and the delays of its answers.",
    },
    Limit {
        what: "That nobody else has a copy. What is encrypted can be copied; without the keys it stays unreadable.",
        instead: "Ask who can reach the sites' disks and their backups.",
    },
    Limit {
        what: "That the service told all that it knows. The facts are signed by the service about itself: they can be \
            held against it, but an omission of its own is found only by those who kept something to compare.",
        instead: "Keep checkpoints outside the provider; compare the facts with what your own clients wrote.",
    },
    Limit {
        what: "That the log holds what never reached it. It proves that what was logged was not changed, dropped or moved.",
        instead: "Compare the log with the calls that your own clients made.",
    },
    Limit {
        what: "That a later restoration succeeds or takes as long. A drill is an observation of the past.",
        instead: "Rehearse again, regularly and after every change.",
    },
    Limit {
        what: "That the data that was backed up is what its owner wanted to keep.",
        instead: "Let the owners of the data look at what a drill restored.",
    },
    Limit {
        what: "Who a principal is in the world. The log names keys and ids, not people.",
        instead: "Keep a register of who was given which credential.",
    },
    Limit {
        what: "That clocks were right. Times are those of the machines of the service; their order in the log is proven, \
            their distance is not.",
        instead: "Have checkpoints time-stamped by somebody else.",
    },
    Limit {
        what: "That a key which was destroyed was not copied before.",
        instead: "Ask who held shares of the root key, and where key stores were ever backed up.",
    },
];
